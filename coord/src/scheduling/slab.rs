//! What is kept under numbers that say where it lies, so that finding it costs one
//! look however much there is. Numbers grow and are never used twice.

/// Bits of a number that say where; the rest counts.
const PLACE_BITS: u32 = 24;

/// See the top of the file.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Option<(u64, T)>>,
    /// Those that are empty; the one that was in use last is taken first, while
    /// some cache still has it.
    empty: Vec<usize>,
    count: u64,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots {
            slots: Vec::new(),
            empty: Vec::new(),
            count: 0,
        }
    }
}

fn place(number: u64) -> usize {
    (number & ((1 << PLACE_BITS) - 1)) as usize
}

impl<T> Slots<T> {
    /// The number of what is put in next; the same until something is.
    pub fn next(&self) -> u64 {
        let place = self.empty.last().copied().unwrap_or(self.slots.len());
        (self.count + 1) << PLACE_BITS | place as u64
    }

    /// Puts it in, under [`Self::next`]. `false`: that is not the number, or more
    /// are there than can be numbered.
    pub fn insert(&mut self, number: u64, value: T) -> bool {
        if number != self.next() || self.slots.len() >> PLACE_BITS != 0 {
            return false;
        }
        self.count += 1;
        match self.empty.pop() {
            Some(place) => self.slots[place] = Some((number, value)),
            None => self.slots.push(Some((number, value))),
        }
        true
    }

    /// What has this number, if it is still there.
    pub fn get(&self, number: u64) -> Option<&T> {
        let (other, value) = self.slots.get(place(number))?.as_ref()?;
        (*other == number).then_some(value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (other, value) = self.slots.get_mut(place(number))?.as_mut()?;
        (*other == number).then_some(value)
    }

    /// Takes it out.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        self.get(number)?;
        let place = place(number);
        let (_, value) = self.slots.get_mut(place)?.take()?;
        self.empty.push(place);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_finds_its_own_and_nothing_else() {
        let mut slots = Slots::default();
        let mut random = fastrand::Rng::with_seed(1);
        let mut there: Vec<(u64, u32)> = Vec::new();
        let mut gone = Vec::new();
        let mut last = 0;
        for value in 0..5_000 {
            let number = slots.next();
            assert!(number > last, "numbers grow");
            last = number;
            assert!(!slots.insert(number + 1, value), "not the next one");
            assert!(slots.insert(number, value));
            there.push((number, value));
            while there.len() > 50 || (there.len() > 10 && random.bool()) {
                let (number, value) = there.swap_remove(random.usize(..there.len()));
                assert_eq!(slots.remove(number), Some(value));
                gone.push(number);
            }
            for (number, value) in &there {
                assert_eq!(slots.get(*number), Some(value));
                assert_eq!(slots.get_mut(*number).copied(), Some(*value));
            }
        }
        for number in gone.into_iter().chain([0, 7, u64::MAX]) {
            assert_eq!(slots.get(number), None);
            assert_eq!(slots.get_mut(number), None);
            assert_eq!(slots.remove(number), None);
        }
        assert!(slots.slots.len() <= 51, "places are used again");
    }
}
