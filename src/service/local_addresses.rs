//! The director's own addresses that stand in for clients: the pool of full NAT.

use crate::base::{Address, Family};

/// Most addresses of the pool, those that are being drained included.
pub const LOCAL_ADDRESSES_MAX: usize = 256;

/// First port that is given to connections: those below belong to services of the host.
pub const LOCAL_PORT_FIRST: u16 = 1024;

/// Number of ports of an address.
pub const LOCAL_PORTS: u32 = 0x1_0000 - LOCAL_PORT_FIRST as u32;

/// The pool, as workers read it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalAddresses {
    /// New connections get these, in order of their coming.
    v4: Vec<Address>,
    v6: Vec<Address>,
    /// All, in order: also those that only connections of earlier have.
    known: Vec<Address>,
}

impl LocalAddresses {
    fn of(&self, family: Family) -> &[Address] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// True when no address is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// True when connections may have the address.
    pub fn contains(&self, address: Address) -> bool {
        self.known.binary_search(&address).is_ok()
    }

    /// True when new connections of the family find an address.
    pub fn has_family(&self, family: Family) -> bool {
        !self.of(family).is_empty()
    }

    /// The endpoint that stands at this place when all of them are counted: address by address, then the next port.
    /// `None` without addresses of the family.
    pub fn endpoint(&self, family: Family, place: u32) -> Option<(Address, u16)> {
        let addresses = self.of(family);
        let count = addresses.len() as u32;
        let address = *addresses.get(place.checked_rem(count)? as usize)?;
        Some((address, LOCAL_PORT_FIRST + (place / count % LOCAL_PORTS) as u16))
    }

    /// All known addresses, and whether new connections get each.
    pub fn list(&self) -> impl Iterator<Item = (Address, bool)> {
        self.known.iter().map(|address| (*address, self.of(address.family()).contains(address)))
    }

    /// Puts an address into the pool, or back into it; false when it was there.
    pub fn add(&mut self, address: Address) -> bool {
        let active = match address.family() {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        if active.contains(&address) {
            return false;
        }
        active.push(address);
        if let Err(place) = self.known.binary_search(&address) {
            self.known.insert(place, address);
        }
        true
    }

    /// Gives the address to no new connection; those that have it keep it. False when it was not in the pool.
    pub fn drain(&mut self, address: Address) -> bool {
        let active = match address.family() {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        let place = active.iter().position(|known| *known == address);
        place.map(|place| active.remove(place)).is_some()
    }

    /// Forgets an address that is being drained; one that new connections get stays.
    pub fn forget(&mut self, address: Address) {
        if !self.of(address.family()).contains(&address)
            && let Ok(place) = self.known.binary_search(&address)
        {
            self.known.remove(place);
        }
    }

    /// Number of known addresses.
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn every_endpoint_has_its_place() {
        let mut pool = LocalAddresses::default();
        assert_eq!(pool.endpoint(Family::V4, 7), None);
        for text in ["10.2.0.200", "10.2.0.201", "10.2.0.202", "fd00:2::200"] {
            assert!(pool.add(address(text)));
            assert!(!pool.add(address(text)));
        }
        let places = 3 * LOCAL_PORTS;
        let endpoints: BTreeSet<_> = (0..places).map(|place| pool.endpoint(Family::V4, place).unwrap()).collect();
        assert_eq!(endpoints.len(), places as usize);
        assert!(endpoints.iter().all(|(_, port)| *port >= LOCAL_PORT_FIRST));
        assert_eq!(pool.endpoint(Family::V6, LOCAL_PORTS - 1), Some((address("fd00:2::200"), u16::MAX)));
    }

    #[test]
    fn a_drained_address_is_known_and_not_given() {
        let mut pool = LocalAddresses::default();
        pool.add(address("10.2.0.200"));
        pool.add(address("10.2.0.201"));
        assert!(pool.drain(address("10.2.0.200")));
        assert!(!pool.drain(address("10.2.0.200")));
        assert!(pool.contains(address("10.2.0.200")));
        assert!((0..10).all(|place| pool.endpoint(Family::V4, place).unwrap().0 == address("10.2.0.201")));
        pool.forget(address("10.2.0.201"));
        assert!(pool.contains(address("10.2.0.201")), "it is given to new connections");
        assert!(pool.add(address("10.2.0.200")), "it comes back");
        assert_eq!(pool.list().map(|(_, active)| active).collect::<Vec<_>>(), [true, true]);
        pool.drain(address("10.2.0.200"));
        pool.forget(address("10.2.0.200"));
        assert_eq!((pool.len(), pool.contains(address("10.2.0.200"))), (1, false));
    }
}
