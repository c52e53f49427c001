//! The shortest way to a known connection: the entry that the bucket's tags suggest first, and no other.
//!
//! A guess is made without the bucket, when its line has arrived, so that the entry's line can be asked for; it is
//! checked under the bucket's lock. Who finds nothing this way has to search.

use crate::conn::bucket::{Bucket, Held, tag};
use crate::conn::entry::{Entry, EntryId, Flags};
use crate::conn::table::{Found, Table};
use crate::service::DestinationId;

/// An entry that may be the one.
#[derive(Clone, Copy, Debug)]
pub struct Guess {
    id: EntryId,
    slot: u8,
}

impl Guess {
    /// No entry.
    pub const NONE: Guess = Guess { id: EntryId::NONE, slot: 0 };

    /// True for no entry.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.id.is_none()
    }
}

impl Flags {
    /// What the shortest way does not know: who has a say beside the forwarding method, and what packets find in
    /// another way or not at all.
    const UNUSUAL: u32 = Self::ATTENDED | Self::TEMPLATE.0 | Self::ALIAS.0 | Self::NO_CLIENT_PORT.0;

    /// True when nothing keeps an entry from the shortest way.
    #[inline(always)]
    pub const fn is_usual(self) -> bool {
        self.0 & Self::UNUSUAL == 0
    }
}

impl Table {
    /// The entry that the bucket's tags suggest first, asked for: what every packet needs of it, or all. Reads without the
    /// lock: a wrong guess costs a line.
    #[inline(always)]
    pub fn guess(&self, hash: u64, far_too: bool) -> Guess {
        let bucket = Bucket(self.bucket_of(hash));
        let Some(slot) = bucket.tagged(tag(hash)).next() else { return Guess::NONE };
        let id = bucket.id(slot);
        self.prefetch(id, far_too);
        Guess { id, slot: slot as u8 }
    }

    /// The destination that the guessed entry names at the moment, to be asked for. Reads without the lock.
    #[inline(always)]
    pub fn guessed_destination(&self, guess: Guess) -> DestinationId {
        self.entry(guess.id).destination()
    }

    /// The guessed entry, its bucket held, when it is there and `matches`, and nothing about it is unusual.
    ///
    /// Two connections may be answered alike, and the one that stands in front has the server's packet: with `IS_ANSWER`,
    /// another that has come there since the guess makes it none.
    #[inline(always)]
    pub fn find_guessed<const IS_ANSWER: bool>(
        &self,
        hash: u64,
        guess: Guess,
        now_ticks: u32,
        matches: impl FnOnce(Entry<'_>) -> bool,
    ) -> Option<Found<'_>> {
        if guess.is_none() {
            return None;
        }
        let held = Held::lock(self.bucket_of(hash));
        let entry = self.entry(guess.id);
        let slot = usize::from(guess.slot);
        let is_it = held.bucket.id(slot) == guess.id
            && matches(entry)
            && entry.flags().is_usual()
            && !entry.is_expired(now_ticks)
            && (!IS_ANSWER || held.bucket.tagged(tag(hash)).next() == Some(slot));
        is_it.then(|| Found::new(self, held, entry, Some(guess.slot), now_ticks))
    }
}
