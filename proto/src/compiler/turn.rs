//! Waiting for a turn that another process has. Not pure: it sleeps.

use std::thread;
use std::time::Duration;

/// Between two looks.
pub const LOOK: Duration = Duration::from_millis(1);

/// Asks `take` until it gives something; if it does not at first, up to `looks` times
/// more. Looks, not time: where all wait long for a core, whoever has the turn does too,
/// and it may be stopped for good.
pub fn wait<T>(looks: u32, mut take: impl FnMut() -> Option<T>) -> Option<T> {
    let mut left = looks;
    loop {
        let taken = take();
        if taken.is_some() || left == 0 {
            return taken;
        }
        thread::sleep(LOOK);
        left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted() {
        for (looks, given_at, taken) in [(0, 0, true), (0, 1, false), (3, 3, true), (3, 4, false)] {
            let mut asked = 0;
            let got = wait(looks, || {
                asked += 1;
                (asked > given_at).then_some(())
            });
            assert_eq!(got.is_some(), taken, "{looks} {given_at}");
            assert_eq!(asked, given_at.min(looks) + 1);
        }
    }
}
