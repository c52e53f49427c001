//! What schedulers do periodically: each service has a timer from the moment it took its scheduler.

use crate::base::Instant;
use crate::control::Control;

impl Control {
    /// Starts the timer of the service at `index`, which has a new scheduler.
    pub(super) fn start_ticks(&mut self, index: usize, now: Instant) {
        let service = &mut self.services[index];
        service.next_tick = service.scheduling.lock().period().map(|period| now + period);
        self.next_tick = [self.next_tick, service.next_tick].into_iter().flatten().min();
    }

    /// Does the work of all services that is due by `now`.
    pub(super) fn tick_schedulers(&mut self, now: Instant) {
        if self.next_tick.is_none_or(|due| due > now) {
            return;
        }
        for service in &mut self.services {
            while let Some(due) = service.next_tick.filter(|due| *due <= now) {
                // The lock is taken for each part, so that packets get their turn between two.
                while service.scheduling.lock().tick(&self.shared.destinations, due) {}
                service.next_tick = service.scheduling.lock().period().map(|period| due + period);
            }
        }
        self.next_tick = self.services.iter().filter_map(|service| service.next_tick).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Address, Duration};
    use crate::command::Request;
    use crate::command::request::{Refusal, ServiceRule};
    use crate::control::tests::{add_server, control, execute, key, server, service};
    use crate::service::{DestinationId, Flow, Protocol};

    fn pick(control: &Control, now: Instant) -> Option<DestinationId> {
        let flow = Flow {
            source: Address::v4(0x0a01_0001),
            source_port: 1025,
            destination: Address::v4(0x0a09_0001),
            destination_port: 80,
            protocol: Some(Protocol::Tcp),
            now,
        };
        control.services[0].scheduling.lock().pick(&control.shared.destinations, &flow)
    }

    fn is_held(control: &Control, id: DestinationId) -> bool {
        control.shared.destinations.get(id).is_held()
    }

    /// The timer starts when the service takes its scheduler; entries go with the thirtieth tick.
    #[test]
    fn entries_run_out_by_the_services_own_timer() {
        for scheduler in ["lblc", "lblcr"] {
            let mut control = control();
            for knob in ["lblc_expiration", "lblcr_expiration"] {
                control.shared.sysctls.write(knob, "60").unwrap();
            }
            let start = Instant::from_seconds(7);
            execute(&mut control, Request::AddService(service("rr"))).unwrap();
            control.execute(start, Request::EditService(service(scheduler))).unwrap();
            add_server(&mut control, server(1)).unwrap();
            let id = pick(&control, start).unwrap();
            let due = start + Duration::from_secs(30 * 60);
            control.handle_timeout(Instant::from_nanoseconds(due.nanoseconds() - 1));
            assert!(is_held(&control, id), "{scheduler}");
            assert!(control.next_deadline().unwrap() <= due);
            control.handle_timeout(due);
            assert!(!is_held(&control, id), "{scheduler}");
        }
    }

    /// A deleted server that an entry names stays in the trash, and what replaces it gets another cell.
    #[test]
    fn what_a_scheduler_holds_is_not_freed() {
        let mut control = control();
        execute(&mut control, Request::AddService(service("lblc"))).unwrap();
        add_server(&mut control, server(1)).unwrap();
        let id = pick(&control, Instant::START).unwrap();
        execute(&mut control, Request::DeleteServer { service: key(), server: server(1).endpoint }).unwrap();
        control.handle_timeout(Instant::from_seconds(600));
        assert_eq!(control.trash.items.len(), 1);
        add_server(&mut control, server(2)).unwrap();
        assert_ne!(pick(&control, Instant::from_seconds(600)), Some(id));
        assert!(!is_held(&control, id), "another destination has its place");
        control.handle_timeout(Instant::from_seconds(900));
        assert_eq!(control.trash.items.len(), 0);
    }

    #[test]
    fn a_scheduler_that_goes_holds_nothing() {
        for last in [Request::DeleteService(key()), Request::EditService(service("rr")), Request::Clear] {
            let mut control = control();
            execute(&mut control, Request::AddService(service("lblcr"))).unwrap();
            add_server(&mut control, server(1)).unwrap();
            let id = pick(&control, Instant::START).unwrap();
            assert!(is_held(&control, id));
            execute(&mut control, Request::EditService(ServiceRule { persistent_s: None, ..service("lblcr") }))
                .unwrap();
            assert!(is_held(&control, id), "the same scheduler stays as it is");
            execute(&mut control, last).unwrap();
            assert!(!is_held(&control, id));
        }
    }

    /// The kernel's answer, and the service goes on as it was.
    #[test]
    fn mh_refuses_more_servers_than_it_has_slots() {
        const SLOTS: usize = 4093;
        let mut control = control();
        execute(&mut control, Request::AddService(service("rr"))).unwrap();
        add_server(&mut control, server(1)).unwrap();
        let id = control.services[0].servers[0].id;
        let lengthen = |control: &Control, length| control.services[0].scheduling.lock().ids.resize(length, id);
        lengthen(&control, SLOTS + 1);
        assert_eq!(execute(&mut control, Request::EditService(service("mh"))), Err(Refusal::Invalid));
        assert_eq!(control.services[0].rule.scheduler, "rr");
        assert_eq!(pick(&control, Instant::START), Some(id));
        lengthen(&control, SLOTS);
        execute(&mut control, Request::EditService(service("mh"))).unwrap();
        assert_eq!(control.services[0].scheduling.lock().scheduler.as_ref().unwrap().name(), "mh");
    }
}
