//! A slab with generations: look-up costs the same however many values there are. Keys
//! grow and are never used twice.

/// Bits of a key that are the value's index; those above count insertions.
const INDEX_BITS: u32 = 24;

/// See the top of the file.
#[derive(Debug)]
pub struct Slab<T> {
    /// Each value with its key.
    entries: Vec<Option<(u64, T)>>,
    /// Indices of vacant entries; the one vacated last is filled first, while some cache
    /// still has it.
    vacant: Vec<usize>,
    /// Values ever inserted.
    inserted: u64,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            entries: Vec::new(),
            vacant: Vec::new(),
            inserted: 0,
        }
    }
}

fn index(key: u64) -> usize {
    (key & ((1 << INDEX_BITS) - 1)) as usize
}

impl<T> Slab<T> {
    /// The key of the value that is inserted next; the same until one is.
    pub fn next_key(&self) -> u64 {
        let index = self.vacant.last().copied().unwrap_or(self.entries.len());
        (self.inserted + 1) << INDEX_BITS | index as u64
    }

    /// A key like all others under which there never is a value.
    pub fn burn_key(&mut self) -> u64 {
        let key = self.next_key();
        self.inserted += 1;
        key
    }

    /// Inserts a value under [`Self::next_key`]. `false`: `key` is another one, or there
    /// are as many values as keys can tell apart.
    pub fn insert(&mut self, key: u64, value: T) -> bool {
        if key != self.next_key() || self.entries.len() >> INDEX_BITS != 0 {
            return false;
        }
        self.inserted += 1;
        match self.vacant.pop() {
            Some(index) => self.entries[index] = Some((key, value)),
            None => self.entries.push(Some((key, value))),
        }
        true
    }

    /// The value with this key, unless it was removed.
    pub fn get(&self, key: u64) -> Option<&T> {
        let (other, value) = self.entries.get(index(key))?.as_ref()?;
        (*other == key).then_some(value)
    }

    /// The value with this key, to be changed, unless it was removed.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let (other, value) = self.entries.get_mut(index(key))?.as_mut()?;
        (*other == key).then_some(value)
    }

    /// Removes the value with this key.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        self.get(key)?;
        let index = index(key);
        let (_, value) = self.entries.get_mut(index)?.take()?;
        self.vacant.push(index);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_own_value_and_no_other() {
        let mut slab = Slab::default();
        let mut random = fastrand::Rng::with_seed(1);
        let mut held: Vec<(u64, u32)> = Vec::new();
        let mut removed = Vec::new();
        let mut last = 0;
        for value in 0..5_000 {
            let key = slab.next_key();
            assert!(key > last, "keys grow");
            last = key;
            assert!(!slab.insert(key + 1, value), "not the next one");
            assert!(slab.insert(key, value));
            held.push((key, value));
            while held.len() > 50 || (held.len() > 10 && random.bool()) {
                let (key, value) = held.swap_remove(random.usize(..held.len()));
                assert_eq!(slab.remove(key), Some(value));
                removed.push(key);
            }
            for (key, value) in &held {
                assert_eq!(slab.get(*key), Some(value));
                assert_eq!(slab.get_mut(*key).copied(), Some(*value));
            }
        }
        for key in removed.into_iter().chain([0, 7, u64::MAX]) {
            assert_eq!(slab.get(key), None);
            assert_eq!(slab.get_mut(key), None);
            assert_eq!(slab.remove(key), None);
        }
        assert!(slab.entries.len() <= 51, "vacant entries are filled again");
    }
}
