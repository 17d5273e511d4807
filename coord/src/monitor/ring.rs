//! The last items of an endless list, each with a number that never comes again, so that
//! a reader can go on where it stopped.

use std::collections::VecDeque;

/// See the top of the file.
#[derive(Debug)]
pub struct Ring<T> {
    items: VecDeque<T>,
    /// Items that were ever added; the number of the newest one.
    count: u64,
    items_max: usize,
}

impl<T> Ring<T> {
    /// One that keeps `items_max` items.
    pub fn new(items_max: usize) -> Self {
        Ring {
            items: VecDeque::new(),
            count: 0,
            items_max,
        }
    }

    /// Adds the item that `make` gives for its number: 1, 2, ...
    pub fn push(&mut self, make: impl FnOnce(u64) -> T) {
        self.count += 1;
        if self.items.len() >= self.items_max {
            self.items.pop_front();
        }
        self.items.push_back(make(self.count));
    }

    /// The number of the newest item; 0: there was none.
    pub fn newest(&self) -> u64 {
        self.count
    }

    /// Items with a number beyond `after`, the oldest first.
    pub fn after(&self, after: u64) -> impl DoubleEndedIterator<Item = &T> {
        let first = self.count - self.items.len() as u64;
        let skip = after.saturating_sub(first).min(self.items.len() as u64);
        self.items.range(skip as usize..)
    }

    /// Items beyond `after` that are not kept any more.
    pub fn missed(&self, after: u64) -> u64 {
        let first = self.count - self.items.len() as u64;
        first.saturating_sub(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_goes_on_where_it_stopped() {
        let mut ring = Ring::new(3);
        assert_eq!((ring.newest(), ring.after(0).count()), (0, 0));
        for _ in 0..5 {
            ring.push(|number| number);
        }
        let after = |after| ring.after(after).copied().collect::<Vec<u64>>();
        assert_eq!(after(0), [3, 4, 5]);
        assert_eq!(after(3), [4, 5]);
        assert_eq!(after(5), [0; 0]);
        assert_eq!(after(99), [0; 0]);
        assert_eq!((ring.missed(0), ring.missed(2), ring.missed(9)), (2, 0, 0));
    }
}
