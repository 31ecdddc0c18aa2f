//! Which blocks of a network of stages may go.

use alloc::vec::Vec;

use crate::{Error, ErrorKind};

/// A block as choices see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The stage that it is of: neighbours whose outputs have one shape.
    pub stage: usize,
    /// Whether what it takes is added to what its branch makes, as it is.
    pub identity: bool,
}

/// Which blocks may go, and how many of a stage stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removable {
    /// Identity shortcuts whose output has the shape of that of the block before, never the first block of the network; two
    /// of each stage stay. The rule of the first author's code.
    #[default]
    Code,
    /// The same without the blocks before and after one that changes the shape, as the paper says it [lottery layers, 3].
    Paper,
    /// All identity shortcuts; one block of the network stays.
    Any,
}

impl Removable {
    /// Blocks of a stage that have to stay.
    const fn least(self) -> usize {
        match self {
            Self::Code | Self::Paper => 2,
            Self::Any => 0,
        }
    }

    /// Whether each block may go, others aside.
    pub fn candidates(self, blocks: &[Seat]) -> Vec<bool> {
        let same = |one: Option<&Seat>, other: &Seat| one.is_some_and(|one| one.stage == other.stage);
        let candidate = |(at, block): (usize, &Seat)| {
            let before = at.checked_sub(1).and_then(|before| blocks.get(before));
            let inner = match self {
                Self::Any => true,
                Self::Code => same(before, block),
                Self::Paper => {
                    // That after a change of shape is the second of its stage; the last stage ends without one.
                    let second = at.checked_sub(2).and_then(|first| blocks.get(first));
                    let after = blocks.get(at + 1);
                    let opens = at >= 2 && !same(second, block);
                    same(before, block) && !opens && (after.is_none() || same(after, block))
                }
            };
            block.identity && inner
        };
        blocks.iter().enumerate().map(candidate).collect()
    }

    /// How many blocks can go at most.
    pub fn most(self, blocks: &[Seat]) -> usize {
        let candidates = self.candidates(blocks);
        let all: Vec<usize> = (0..blocks.len()).filter(|at| candidates[*at]).collect();
        self.first(blocks, &all, usize::MAX).len()
    }

    /// The `count` blocks that go first in an order, in the order in which they run. Those that may not go are passed over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoBlocks`] for none, [`ErrorKind::Removable`] for more than can go.
    pub fn choose(self, blocks: &[Seat], order: &[usize], count: usize) -> Result<Vec<usize>, Error> {
        if count == 0 {
            return Err(ErrorKind::NoBlocks.into());
        }
        let mut chosen = self.first(blocks, order, count);
        chosen.sort_unstable();
        match chosen.len() == count {
            true => Ok(chosen),
            false => Err(ErrorKind::Removable { removed: count, most: self.most(blocks) }.into()),
        }
    }

    /// Whether these blocks may go together.
    ///
    /// # Errors
    ///
    /// Those of [`kept`](super::kept), [`ErrorKind::Stays`] for a block that may not go, [`ErrorKind::Stage`] for a stage of
    /// which too little stays.
    pub fn check(self, blocks: &[Seat], removed: &[usize]) -> Result<(), Error> {
        super::kept(blocks.len(), removed)?;
        let candidates = self.candidates(blocks);
        if let Some(block) = removed.iter().find(|at| !candidates[**at]) {
            return Err(ErrorKind::Stays { block: *block }.into());
        }
        let stage = |at: &usize| blocks.get(*at).map(|block| block.stage);
        let crowded = removed.iter().find(|at| {
            let all = blocks.iter().filter(|block| Some(block.stage) == stage(at)).count();
            let gone = removed.iter().filter(|other| stage(other) == stage(at)).count();
            all - gone < self.least()
        });
        match crowded {
            Some(at) => Err(ErrorKind::Stage { block: *at, stays: self.least() }.into()),
            None => Ok(()),
        }
    }

    /// The first of an order that may go, `count` at most.
    fn first(self, blocks: &[Seat], order: &[usize], count: usize) -> Vec<usize> {
        let candidates = self.candidates(blocks);
        let stages = blocks.iter().map(|block| block.stage + 1).max().unwrap_or(0);
        let mut left = alloc::vec![0usize; stages];
        blocks.iter().for_each(|block| left[block.stage] += 1);
        let (mut chosen, mut all) = (Vec::new(), blocks.len());
        for at in order.iter().filter(|at| candidates.get(**at) == Some(&true)) {
            let left = &mut left[blocks[*at].stage];
            if chosen.len() < count && all > 1 && *left > self.least() {
                chosen.push(*at);
                (*left, all) = (*left - 1, all - 1);
            }
        }
        chosen
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use alloc::vec;

    use super::*;

    /// A ResNet of three stages of `n` blocks for small images: the first blocks of the second and the third change the shape.
    fn resnet(n: usize) -> Vec<Seat> {
        (0..3 * n).map(|at| Seat { stage: at / n, identity: at % n > 0 || at == 0 }).collect()
    }

    fn of(all: &[bool]) -> Vec<usize> {
        (0..all.len()).filter(|at| all[*at]).collect()
    }

    #[test]
    fn resnets_have_the_candidates_of_the_paper() {
        // 3 (n - 1) candidates, of which 3 (n - 2) can go [lottery layers, code].
        for (n, candidates, most) in [(3, 6, 3), (5, 12, 9), (9, 24, 21)] {
            let blocks = resnet(n);
            assert_eq!(of(&Removable::Code.candidates(&blocks)).len(), candidates);
            assert_eq!(Removable::Code.most(&blocks), most);
        }
        assert_eq!(of(&Removable::Code.candidates(&resnet(3))), [1, 2, 4, 5, 7, 8]);
        // Without 4 and 9, before a change of shape, and 6 and 11, after one.
        assert_eq!(of(&Removable::Paper.candidates(&resnet(5))), [1, 2, 3, 7, 8, 12, 13, 14]);
        assert_eq!(of(&Removable::Any.candidates(&resnet(3))), [0, 1, 2, 4, 5, 7, 8]);
        let one = [Seat { stage: 0, identity: true }; 4];
        assert_eq!((Removable::Any.most(&one), Removable::Code.most(&one)), (3, 2));
        assert_eq!((Removable::Any.most(&[]), Removable::Code.most(&one[..1])), (0, 0));
    }

    #[test]
    fn the_first_of_an_order_go_and_two_of_each_stage_stay() {
        let blocks = resnet(3);
        let order = [8, 7, 0, 3, 2, 1, 5, 4, 6];
        assert_eq!(Removable::Code.choose(&blocks, &order, 1).unwrap(), [8]);
        // 7 is of the stage of 8, 0 the first of all, 3 no identity, 1 of the stage of 2.
        assert_eq!(Removable::Code.choose(&blocks, &order, 3).unwrap(), [2, 5, 8]);
        let more = Removable::Code.choose(&blocks, &order, 4).unwrap_err();
        assert_eq!(alloc::string::ToString::to_string(&more), "4 blocks to remove; 3 can be at most");
        assert_eq!(Removable::Code.choose(&blocks, &order, 0).unwrap_err().kind(), &ErrorKind::NoBlocks);
        assert_eq!(Removable::Any.choose(&blocks, &order, 4).unwrap(), [0, 2, 7, 8]);
    }

    #[test]
    fn blocks_that_are_named_are_checked() {
        let blocks = resnet(3);
        let refused = |rule: Removable, removed: &[usize]| rule.check(&blocks, removed).unwrap_err().kind().clone();
        Removable::Code.check(&blocks, &[1, 4, 8]).unwrap();
        Removable::Any.check(&blocks, &[0, 1, 2, 4, 5, 7, 8]).unwrap();
        assert_eq!(refused(Removable::Code, &[0]), ErrorKind::Stays { block: 0 });
        assert_eq!(refused(Removable::Any, &[3]), ErrorKind::Stays { block: 3 });
        assert_eq!(refused(Removable::Code, &[1, 7, 8]), ErrorKind::Stage { block: 7, stays: 2 });
        assert_eq!(refused(Removable::Code, &[9]), ErrorKind::Block { block: 9, blocks: 9 });
        let single = vec![Seat { stage: 0, identity: true }];
        assert!(Removable::Any.check(&single, &[0]).is_err());
    }
}
