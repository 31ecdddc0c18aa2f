//! Learning rates over the course of a training.

/// How the rate goes, as a share of the highest.
#[derive(Clone, Debug, PartialEq)]
pub enum Course {
    /// Always the same.
    Constant,
    /// Down along half a cosine (Loshchilov and Hutter, *SGDR*, 2017).
    Cosine,
    /// Multiplied with a factor at each milestone.
    Step {
        /// The factor.
        factor: f64,
        /// Where, as shares of all steps, of 1.
        milestones: Vec<f64>,
    },
    /// Up along half a cosine for three tenths of the way, then down to a ten-thousandth of where it began (Smith and
    /// Topin, *Super-Convergence*, 2019, as PyTorch's `OneCycleLR` has it).
    OneCycle,
}

/// A course of so many steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// How the rate goes.
    pub course: Course,
    /// The highest rate.
    pub rate: f64,
    /// Steps at the beginning in which it rises evenly from 0.
    pub warmup: u64,
    /// All steps.
    pub steps: u64,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.rate * (step + 1) as f64 / self.warmup as f64;
        }
        let (done, all) = ((step - self.warmup) as f64, (self.steps.saturating_sub(self.warmup)).max(1) as f64);
        let way = (done / all).min(1.0);
        let cosine = |way: f64| 0.5 * (1.0 + (std::f64::consts::PI * way).cos());
        let share = match &self.course {
            Course::Constant => 1.0,
            Course::Cosine => cosine(way),
            Course::Step { factor, milestones } => {
                let at = |milestone: &f64| (milestone * self.steps as f64).round() as u64;
                milestones.iter().filter(|milestone| at(milestone) <= step).fold(1.0, |share, _| share * factor)
            }
            Course::OneCycle => {
                // The last step has the lowest rate.
                let (way, up) = ((done / (all - 1.0).max(1.0)).min(1.0), 0.3);
                let (low, lowest) = (1.0 / 25.0, 1e-4 / 25.0);
                if way < up {
                    1.0 + (low - 1.0) * cosine(way / up)
                } else {
                    lowest + (1.0 - lowest) * cosine((way - up) / (1.0 - up))
                }
            }
        };
        self.rate * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_go_their_course() {
        let of = |course| Schedule { course, rate: 0.5, warmup: 10, steps: 110 };
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let step = of(Course::Step { factor: 0.1, milestones: vec![0.4, 0.8] });
        for course in [of(Course::Constant), of(Course::Cosine), step.clone()] {
            assert!(close(course.at(0), 0.05) && close(course.at(9), 0.5) && close(course.at(10), 0.5));
        }
        assert!(close(of(Course::Cosine).at(60), 0.25) && of(Course::Cosine).at(109) < 1e-3);
        for (at, rate) in [(43, 0.5), (44, 0.05), (87, 0.05), (88, 0.005), (109, 0.005)] {
            assert!(close(step.at(at), rate), "{at}: {}", step.at(at));
        }
        let cycle = Schedule { course: Course::OneCycle, rate: 1.0, warmup: 0, steps: 101 };
        assert!(close(cycle.at(0), 0.04) && close(cycle.at(30), 1.0) && close(cycle.at(100), 4e-6));
    }
}
