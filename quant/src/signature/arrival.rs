//! How much of a patch arrives in weights that were rounded after it was applied.

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

/// Lanes of the sums.
const LANES: usize = 8;

/// Sums over the change that was asked for, and the one that was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arrival {
    asked: f64,
    made: f64,
}

impl Arrival {
    /// Of some weights: `before` the patch, `asked` for, and `now` stored. Lane `i` of eight takes the
    /// weights `i, i + 8, ..`, and the lanes are added in order.
    pub fn of(level: Level, before: &[f32], asked: &[f64], now: &[f32]) -> Self {
        let [wanted, made] = sums(level, before, asked, now);
        let total = |lanes: [f64; LANES]| lanes.iter().sum();
        Self { asked: total(wanted), made: total(made) }
    }

    /// Adds the sums of the part that follows.
    pub fn merge(&mut self, next: &Self) {
        self.asked += next.asked;
        self.made += next.made;
    }

    /// How much of the patch arrives, along the patch: ⟨asked, made⟩ / ⟨asked, asked⟩, so 1 for all
    /// of it, and for a patch of nothing.
    pub fn survival(&self) -> f64 {
        if self.asked > 0.0 { self.made / self.asked } else { 1.0 }
    }
}

stamp! {
    fn sums = sums_body(before: &[f32], asked: &[f64], now: &[f32]) -> [[f64; LANES]; 2];
}

#[inline(always)]
fn sums_body(before: &[f32], asked: &[f64], now: &[f32]) -> [[f64; LANES]; 2] {
    let (mut wanted, mut made) = ([0.0; LANES], [0.0; LANES]);
    let mut add = |at: usize, before: f32, asked: f64, now: f32| {
        let before = f64::from(before);
        let want = asked - before;
        wanted[at] += want * want;
        made[at] += want * (f64::from(now) - before);
    };
    let (whole, rest) = before.as_chunks::<LANES>();
    let (asked_whole, now_whole) = (asked.as_chunks::<LANES>().0, now.as_chunks::<LANES>().0);
    for ((before, asked), now) in whole.iter().zip(asked_whole).zip(now_whole) {
        for at in 0..LANES {
            add(at, before[at], asked[at], now[at]);
        }
    }
    let (asked, now) = (asked.iter().skip(whole.len() * LANES), now.iter().skip(whole.len() * LANES));
    for (at, ((before, asked), now)) in rest.iter().zip(asked).zip(now).enumerate() {
        add(at, *before, *asked, *now);
    }
    [wanted, made]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_measured_along_the_patch() {
        let before = [1.0f32; 21];
        let asked = [1.5f64; 21];
        for level in Level::all() {
            let of = |now: f32| Arrival::of(level, &before, &asked, &[now; 21]).survival();
            assert_eq!((of(1.5), of(1.0), of(1.25)), (1.0, 0.0, 0.5));
        }
        assert_eq!(Arrival::default().survival(), 1.0);
        let mut total = Arrival::of(Level::best(), &before, &asked, &[1.5; 21]);
        total.merge(&Arrival::of(Level::best(), &before, &asked, &[1.0; 21]));
        assert_eq!(total.survival(), 0.5);
    }
}
