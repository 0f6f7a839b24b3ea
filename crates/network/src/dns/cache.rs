//! Answers of other servers, kept as long as they say, in bounded memory.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::wire::{self, Query};

/// Bytes of all kept answers and their keys, at most.
const ROOM: usize = 128 << 10;
/// Longer than that nothing is kept, whatever it says of itself.
const LONGEST: u32 = 3600;
/// Bookkeeping for each answer, roughly.
const OVERHEAD: usize = 128;

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Cache {
    answers: HashMap<Box<[u8]>, Kept>,
    used: usize,
}

#[derive(Debug)]
struct Kept {
    bytes: Box<[u8]>,
    since: Instant,
    until: Instant,
}

impl Cache {
    /// The answer to a question, if it is kept and still good.
    pub(super) fn find(&mut self, query: &Query<'_>, now: Instant) -> Option<Vec<u8>> {
        if self.answers.is_empty() {
            return None;
        }
        let key = query.key();
        let kept = self.answers.get(&key)?;
        if kept.until <= now {
            self.forget(&key);
            return None;
        }
        let mut bytes = kept.bytes.to_vec();
        wire::renew(&mut bytes, query, now.duration_since(kept.since).as_secs() as u32);
        Some(bytes)
    }

    /// Keeps an answer for `ttl` seconds.
    pub(super) fn keep(&mut self, key: Box<[u8]>, bytes: &[u8], ttl: u32, now: Instant) {
        let size = cost(&key, bytes);
        if size > ROOM / 8 {
            return;
        }
        self.forget(&key);
        self.make_room(size, now);
        self.used += size;
        let until = now + Duration::from_secs(u64::from(ttl.min(LONGEST)));
        self.answers.insert(key, Kept { bytes: bytes.into(), since: now, until });
    }

    /// Forgets everything: other servers may say something else.
    pub(super) fn clear(&mut self) {
        *self = Cache::default();
    }

    /// Forgets what is no longer good; whether nothing is left.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.answers.retain(|_, kept| kept.until > now);
        self.used = self.answers.iter().map(|(key, kept)| cost(key, &kept.bytes)).sum();
        if self.answers.is_empty() {
            self.clear();
        }
        self.answers.is_empty()
    }

    fn make_room(&mut self, size: usize, now: Instant) {
        if self.used + size <= ROOM {
            return;
        }
        self.expire(now);
        while self.used + size > ROOM {
            let Some(first) = self.answers.iter().min_by_key(|(_, kept)| kept.until).map(|(key, _)| key.clone()) else {
                return;
            };
            self.forget(&first);
        }
    }

    fn forget(&mut self, key: &[u8]) {
        if let Some(kept) = self.answers.remove(key) {
            self.used -= cost(key, &kept.bytes);
        }
    }
}

fn cost(key: &[u8], bytes: &[u8]) -> usize {
    key.len() + bytes.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::{question, response};
    use super::*;

    #[test]
    fn answers_are_kept_for_their_time_and_grow_old() {
        let mut cache = Cache::default();
        let bytes = question(1, "db.example", 1, None);
        let query = Query::read(&bytes).unwrap();
        let answer = response(&bytes, 0, &[(1, 60, &[1, 2, 3, 4])], None);
        let now = Instant::now();
        assert!(cache.find(&query, now).is_none());
        cache.keep(query.key(), &answer, 60, now);
        let found = cache.find(&query, now + Duration::from_secs(20)).unwrap();
        assert_eq!(wire::judge(&found, 1, query.question()).unwrap().ttl, Some(40));
        assert!(cache.find(&query, now + Duration::from_secs(60)).is_none());
        assert_eq!(cache.used, 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut cache = Cache::default();
        let now = Instant::now();
        for number in 0..2000u32 {
            let bytes = question(1, &format!("n{number}.example"), 1, None);
            let query = Query::read(&bytes).unwrap();
            let answer = response(&bytes, 0, &[(16, 100 + number, &[7; 200])], None);
            cache.keep(query.key(), &answer, 100 + number, now);
            assert!(cache.used <= ROOM);
        }
        let last = question(1, "n1999.example", 1, None);
        assert!(cache.find(&Query::read(&last).unwrap(), now).is_some());
        let first = question(1, "n0.example", 1, None);
        assert!(cache.find(&Query::read(&first).unwrap(), now).is_none());
        assert!(!cache.expire(now));
        assert!(cache.expire(now + Duration::from_secs(4000)));
    }
}
