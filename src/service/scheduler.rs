//! The face that every scheduler shows, and the list it works on.

use crate::base::{Address, Duration, Instant};
use crate::service::destination::{Destination, DestinationId, Destinations};
use crate::service::types::{Protocol, SchedulerFlags};

/// What a scheduler may look at of the packet that asks for a destination.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Source address of the packet (the client).
    pub source: Address,
    /// Source port.
    pub source_port: u16,
    /// Destination address of the packet (the virtual address, or whatever a mark selected).
    pub destination: Address,
    /// Destination port.
    pub destination_port: u16,
    /// Transport protocol; `None` for a fwmark packet of another protocol.
    pub protocol: Option<Protocol>,
    /// Current time.
    pub now: Instant,
}

/// A service's destinations in the kernel's order: the one added last stands first.
#[derive(Clone, Copy)]
pub struct List<'a> {
    /// The numbers, newest first.
    pub ids: &'a [DestinationId],
    /// The table that the numbers point into.
    pub table: &'a Destinations,
    /// The service's scheduler flags.
    pub flags: SchedulerFlags,
}

impl<'a> List<'a> {
    /// How people call a destination: its address and port.
    pub fn name(self, id: DestinationId) -> String {
        self.table.get(id).endpoint().to_string()
    }

    /// Number and cell of each destination, newest first.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = (DestinationId, &'a Destination)> {
        self.table.iter(self.ids)
    }
}

/// A scheduling algorithm with its state for one service. All calls come under the service's lock.
pub trait Scheduler: Send {
    /// The kernel's name of the algorithm.
    fn name(&self) -> &'static str;

    /// The destination for a new connection; `None` when no destination is usable.
    fn pick(&mut self, list: List<'_>, flow: &Flow) -> Option<DestinationId>;

    /// The same scheduler in the same state: what it picks next is what this one picks next.
    ///
    /// It is for a copy of the destinations ([`Destinations::copy`]): what this one holds, it holds there.
    fn copy(&self) -> Box<dyn Scheduler>;

    /// By which number the choice compares a destination with others, in words; `None` where it compares none.
    fn load(&self, _destination: &Destination) -> Option<String> {
        None
    }

    /// By which rule the next destination is picked for `flow`, in words; nothing changes.
    fn reason(&self, list: List<'_>, flow: &Flow) -> String;

    /// Whether it can serve a list of so many destinations; asked before it is given to a service.
    fn fits(&self, _destinations: usize) -> bool {
        true
    }

    /// The list, or what control says of one in it, is not what it was: any of `bound`, `added`, `removed` and
    /// `edited`, where they say nothing else.
    fn changed(&mut self, _list: List<'_>) {}

    /// The service starts to use this scheduler, or its flags were set anew.
    fn bound(&mut self, list: List<'_>) {
        self.changed(list);
    }

    /// `id` has been added; `list` holds it.
    fn added(&mut self, list: List<'_>, _id: DestinationId) {
        self.changed(list);
    }

    /// `id` is about to leave; `list` still holds it, at position `position`.
    fn removing(&mut self, _list: List<'_>, _position: usize) {}

    /// `id` has left.
    fn removed(&mut self, list: List<'_>, _id: DestinationId) {
        self.changed(list);
    }

    /// The weight or another property of `id` has changed.
    fn edited(&mut self, list: List<'_>, _id: DestinationId) {
        self.changed(list);
    }

    /// How often [`Scheduler::tick`] is due, counted from when the service started to use this scheduler; never zero.
    fn period(&self) -> Option<Duration> {
        None
    }

    /// Does a part of what is due periodically; true while parts are left to be done now. Between parts the lock is
    /// free.
    fn tick(&mut self, _list: List<'_>, _now: Instant) -> bool {
        false
    }

    /// The service no longer uses this scheduler: every destination that it holds is to be released.
    fn unbound(&mut self, _table: &Destinations) {}
}

/// What the lock of a service guards: the list of its destinations and the scheduler's position in it.
pub struct Scheduling {
    /// Destinations, newest first.
    pub ids: Vec<DestinationId>,
    /// The algorithm; `None` for the name `none`, which gives every new connection no destination.
    pub scheduler: Option<Box<dyn Scheduler>>,
    /// Scheduler flags.
    pub flags: SchedulerFlags,
}

impl Scheduling {
    /// An empty list under `scheduler`.
    pub fn new(scheduler: Option<Box<dyn Scheduler>>, flags: SchedulerFlags, table: &Destinations) -> Self {
        let mut scheduling = Self { ids: Vec::new(), scheduler: None, flags };
        scheduling.rebind(scheduler, flags, table);
        scheduling
    }

    /// The destination for a new connection.
    pub fn pick(&mut self, table: &Destinations, flow: &Flow) -> Option<DestinationId> {
        let list = List { ids: &self.ids, table, flags: self.flags };
        self.scheduler.as_mut()?.pick(list, flow)
    }

    /// The same list under the same scheduler in the same state, for a copy of the destinations.
    #[must_use]
    pub fn copy(&self) -> Self {
        let scheduler = self.scheduler.as_ref().map(|scheduler| scheduler.copy());
        Self { ids: self.ids.clone(), scheduler, flags: self.flags }
    }

    /// The destination that [`Scheduling::pick`] would give; nothing changes. Takes a copy of all destinations: not for
    /// a packet's way.
    pub fn peek(&self, table: &Destinations, flow: &Flow) -> Option<DestinationId> {
        self.copy().pick(&table.copy(), flow)
    }

    /// Puts another scheduler in place.
    pub fn rebind(&mut self, scheduler: Option<Box<dyn Scheduler>>, flags: SchedulerFlags, table: &Destinations) {
        if let Some(before) = &mut self.scheduler {
            before.unbound(table);
        }
        self.scheduler = scheduler;
        self.flags = flags;
        self.tell(table, |scheduler, list| scheduler.bound(list));
    }

    /// Adds a destination at the head of the list.
    pub fn add(&mut self, table: &Destinations, id: DestinationId) {
        self.ids.insert(0, id);
        self.tell(table, |scheduler, list| scheduler.added(list, id));
    }

    /// Takes a destination from the list; false when it was not there.
    pub fn remove(&mut self, table: &Destinations, id: DestinationId) -> bool {
        let Some(position) = self.ids.iter().position(|&other| other == id) else { return false };
        self.tell(table, |scheduler, list| scheduler.removing(list, position));
        self.ids.remove(position);
        self.tell(table, |scheduler, list| scheduler.removed(list, id));
        true
    }

    /// Says that a destination's properties have changed.
    pub fn edit(&mut self, table: &Destinations, id: DestinationId) {
        self.tell(table, |scheduler, list| scheduler.edited(list, id));
    }

    /// How often [`Scheduling::tick`] is due, if ever.
    pub fn period(&self) -> Option<Duration> {
        self.scheduler.as_ref()?.period()
    }

    /// Does a part of the scheduler's periodic work; true while parts are left to be done now.
    pub fn tick(&mut self, table: &Destinations, now: Instant) -> bool {
        let list = List { ids: &self.ids, table, flags: self.flags };
        self.scheduler.as_mut().is_some_and(|scheduler| scheduler.tick(list, now))
    }

    fn tell(&mut self, table: &Destinations, say: impl FnOnce(&mut dyn Scheduler, List<'_>)) {
        if let Some(scheduler) = &mut self.scheduler {
            say(scheduler.as_mut(), List { ids: &self.ids, table, flags: self.flags });
        }
    }
}
