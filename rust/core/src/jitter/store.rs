//! Received samples, found by their place on the sender's clock.

/// A ring of samples with a bit for each that is held.
///
/// Places are absolute, in samples. The ring holds what lies in `start..start + capacity`; whoever puts samples in keeps
/// to that window.
pub(super) struct Store {
    samples: Box<[i16]>,
    held: Box<[u64]>,
    mask: i64,
    capacity: i64,
    start: i64,
    end: i64,
}

impl Store {
    /// Create a store for `capacity` samples.
    pub(super) fn new(capacity: usize) -> Self {
        let size = capacity.next_power_of_two().max(64);
        Self {
            samples: vec![0; size].into(),
            held: vec![0; size / 64].into(),
            mask: size as i64 - 1,
            capacity: capacity as i64,
            start: 0,
            end: 0,
        }
    }

    pub(super) fn capacity(&self) -> i64 {
        self.capacity
    }

    /// The first place that can still be held.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// One past the newest sample that was held.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Forget everything and begin anew at `start`.
    pub(super) fn restart(&mut self, start: i64) {
        if !self.is_empty() {
            self.held.fill(0);
        }
        self.start = start;
        self.end = start;
    }

    /// Put in the samples of little-endian `pcm` from `at` on and return how many were new.
    ///
    /// All of them have to lie in the window. What is held already stays as it is.
    pub(super) fn put(&mut self, at: i64, pcm: &[u8]) -> usize {
        let samples = pcm.as_chunks::<2>().0;
        let end = at + samples.len() as i64;
        debug_assert!(self.start <= at && end <= self.start + self.capacity());
        if self.first_from(at).is_some_and(|held| held < end) {
            return self.put_between(at, samples);
        }
        let slot = (at & self.mask) as usize;
        let until_wrap = (self.samples.len() - slot).min(samples.len());
        let (head, tail) = samples.split_at(until_wrap);
        copy(&mut self.samples[slot..slot + until_wrap], head);
        copy(&mut self.samples[..tail.len()], tail);
        self.mark(at, end, true);
        self.end = self.end.max(end);
        samples.len()
    }

    /// Put in only what is not held yet.
    fn put_between(&mut self, at: i64, samples: &[[u8; 2]]) -> usize {
        let mut num_new = 0;
        for (place, sample) in (at..).zip(samples) {
            if !self.holds(place) {
                self.samples[(place & self.mask) as usize] = i16::from_le_bytes(*sample);
                self.mark(place, place + 1, true);
                num_new += 1;
            }
        }
        self.end = self.end.max(at + samples.len() as i64);
        num_new
    }

    fn holds(&self, place: i64) -> bool {
        let slot = place & self.mask;
        self.held[(slot >> 6) as usize] >> (slot & 63) & 1 == 1
    }

    fn mark(&mut self, from: i64, to: i64, held: bool) {
        let mut place = from;
        while place < to {
            let slot = place & self.mask;
            let bit = slot & 63;
            let len = (64 - bit).min(to - place);
            let bits = (u64::MAX >> (64 - len)) << bit;
            let word = &mut self.held[(slot >> 6) as usize];
            *word = if held { *word | bits } else { *word & !bits };
            place += len;
        }
    }

    /// Return how many samples are held without a gap from `from` on, at most `most`.
    pub(super) fn run(&self, from: i64, most: usize) -> usize {
        self.scan(from, (from + most as i64).min(self.end), true).map_or(0, |end| (end - from).max(0) as usize)
    }

    /// Return the first place that is held, from `from` on.
    pub(super) fn first_from(&self, from: i64) -> Option<i64> {
        let from = from.max(self.start);
        let found = self.scan(from, self.end, false)?;
        (found < self.end).then_some(found)
    }

    /// Return the first place in `from..to` whose bit differs from `held`, or `to`; None where there is no such range.
    fn scan(&self, from: i64, to: i64, held: bool) -> Option<i64> {
        if from >= to || from < self.start {
            return None;
        }
        let mut place = from;
        while place < to {
            let slot = place & self.mask;
            let bit = slot & 63;
            let word = self.held[(slot >> 6) as usize];
            let differing = (if held { !word } else { word }) >> bit;
            let len = 64 - bit;
            let offset = i64::from(differing.trailing_zeros());
            if offset < len {
                return Some((place + offset).min(to));
            }
            place += len;
        }
        Some(to)
    }

    /// Copy the samples from `from` on; they have to be held, or were.
    pub(super) fn copy_to(&self, from: i64, output: &mut [i16]) {
        let slot = (from & self.mask) as usize;
        let until_wrap = (self.samples.len() - slot).min(output.len());
        let (head, tail) = output.split_at_mut(until_wrap);
        head.copy_from_slice(&self.samples[slot..slot + until_wrap]);
        tail.copy_from_slice(&self.samples[..tail.len()]);
    }

    /// Give up everything before `place`.
    pub(super) fn advance(&mut self, place: i64) {
        let place = place.max(self.start);
        self.mark(self.start, place.min(self.end), false);
        self.start = place;
        self.end = self.end.max(place);
    }
}

fn copy(samples: &mut [i16], pcm: &[[u8; 2]]) {
    for (sample, bytes) in samples.iter_mut().zip(pcm) {
        *sample = i16::from_le_bytes(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pcm(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    proptest! {
        #[test]
        fn holds_what_a_map_would(
            steps in prop::collection::vec((0_usize..200, 1_usize..90, any::<bool>()), 1..40),
            origin in prop_oneof![Just(0_i64), -5000_i64..5000, Just(i64::from(u32::MAX))],
        ) {
            let mut store = Store::new(250);
            store.restart(origin);
            let mut map = std::collections::BTreeMap::new();
            let mut next = 0_i16;
            for (offset, len, moves_on) in steps {
                let at = store.start() + offset as i64;
                let len = len.min((store.start() + store.capacity() - at).max(0) as usize);
                let samples: Vec<i16> = (0..len).map(|_| { next = next.wrapping_add(1); next }).collect();
                let mut num_new = 0;
                for (place, sample) in (at..).zip(&samples) {
                    map.entry(place).or_insert_with(|| { num_new += 1; *sample });
                }
                prop_assert_eq!(store.put(at, &pcm(&samples)), num_new);
                if moves_on {
                    let place = store.start() + (offset / 3) as i64;
                    store.advance(place);
                    map.retain(|held, _| *held >= place);
                }
                prop_assert_eq!(store.first_from(store.start()), map.keys().next().copied());
                let mut place = store.start();
                while let Some(first) = store.first_from(place) {
                    let run = store.run(first, 1000);
                    let mut copied = vec![0; run];
                    store.copy_to(first, &mut copied);
                    for (at, sample) in (first..).zip(&copied) {
                        prop_assert_eq!(map.get(&at), Some(sample));
                    }
                    prop_assert!(!map.contains_key(&(first + run as i64)));
                    place = first + run as i64;
                }
            }
        }
    }

    #[test]
    fn says_how_much_there_is_without_a_gap() {
        let mut store = Store::new(64);
        store.put(0, &pcm(&[1; 10]));
        store.put(20, &pcm(&[1; 10]));
        assert_eq!(store.run(0, 1000), 10);
        assert_eq!(store.run(4, 3), 3);
        assert_eq!(store.run(10, 1000), 0);
        assert_eq!(store.first_from(10), Some(20));
        assert_eq!(store.first_from(30), None);
    }
}
