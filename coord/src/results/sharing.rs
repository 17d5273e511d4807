//! Results on their way from the client whose task was compiled to others that have asked
//! for the same in the meantime, and need not find the store in order to get it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hg_proto::wire::digest::Digest;
use tokio::sync::watch;

use crate::results::kept::Kept;

/// What those hear who asked for the same.
#[derive(Debug, Clone, Default)]
struct Heard {
    /// The result.
    made: Option<Arc<Kept>>,
    /// How often a compile ended of which nothing could be shared.
    in_vain: u64,
}

type Seats = HashMap<Digest, watch::Sender<Heard>>;

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Sharing {
    seats: Mutex<Seats>,
}

/// What a [`Seat`] was waiting for.
#[derive(Debug)]
pub enum Shared {
    /// The result.
    Made(Arc<Kept>),
    /// There will be none of the compile that was waited for.
    InVain,
}

/// One of those who ask for the same, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    key: Digest,
    sharing: Arc<Sharing>,
    ear: watch::Receiver<Heard>,
}

impl Sharing {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asks for the result of `key`.
    pub fn seat(self: &Arc<Self>, key: Digest) -> Seat {
        let mut seats = self.seats();
        let mouth = seats
            .entry(key)
            .or_insert_with(|| watch::channel(Heard::default()).0);
        Seat {
            key,
            sharing: self.clone(),
            ear: mouth.subscribe(),
        }
    }
}

impl Seat {
    /// The result, if it is there already.
    pub fn made(&self) -> Option<Arc<Kept>> {
        self.ear.borrow().made.clone()
    }

    /// Waits for what comes of somebody's compile. Cancelling this loses nothing.
    pub async fn hear(&mut self) -> Shared {
        // It fails once nobody can speak any more, and this seat could.
        let _ = self.ear.changed().await;
        match self.made() {
            Some(made) => Shared::Made(made),
            None => Shared::InVain,
        }
    }

    /// Gives the others what has been made.
    pub fn share(&self, made: Arc<Kept>) {
        self.speak(|heard| heard.made = Some(made));
    }

    /// Tells the others that nothing comes of this one's compile.
    pub fn give_up(&self) {
        self.speak(|heard| heard.in_vain += 1);
    }

    fn speak(&self, change: impl FnOnce(&mut Heard)) {
        if let Some(mouth) = self.sharing.seats().get(&self.key) {
            mouth.send_modify(change);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.sharing.seats();
        let is_last = |mouth: &watch::Sender<Heard>| mouth.receiver_count() == 1;
        if seats.get(&self.key).is_some_and(is_last) {
            seats.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_ask_for_the_same_get_what_one_has_made() {
        let sharing = Arc::new(Sharing::default());
        let key = Digest::of(b"same");
        let one = sharing.seat(key);
        let mut others = [sharing.seat(key), sharing.seat(key)];
        let other_key = sharing.seat(Digest::of(b"other"));
        one.give_up();
        for other in &mut others {
            assert!(matches!(other.hear().await, Shared::InVain));
        }
        one.share(Arc::new(Kept::default()));
        drop(one);
        for other in &mut others {
            assert!(matches!(other.hear().await, Shared::Made(_)));
        }
        assert!(sharing.seat(key).made().is_some(), "while one is there");
        assert!(other_key.made().is_none());
        drop(others);
        assert!(sharing.seat(key).made().is_none());
        drop(other_key);
        assert!(sharing.seats().is_empty());
    }
}
