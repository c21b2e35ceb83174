//! A poller is removed while a connection that has a lease on it gets its last message.
//!
//! The pollers, their group and their wake-ups are the ones that ship, on the modelled kernel of
//! `netpoll-poller`; so is the scheduler. What a connection's end does follows
//! `Inner::leave_table`, what may end follows `Net::finished`.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use loom::{sync::Mutex, thread};
use netpoll::sched::{
    At, Host, Lane, Mode, Outcome, Scheduler, Seat, Step, role::Look, role::State, turn::Turn,
    watchdog,
};
use poller::{Balance, Events, Group, Lease, Member, Poller};

struct Conn {
    turn: Turn,
    /// Until it has ended.
    lease: Mutex<Option<Lease>>,
}

struct Core {
    events: Events,
    ready: VecDeque<Arc<Conn>>,
}

#[derive(Default)]
struct World {
    offered: Mutex<Vec<Arc<Seat<World>>>>,
    handled: Mutex<usize>,
}

impl Host for World {
    type Core = Core;
    type Shared = Arc<Member>;
    type Work = Arc<Conn>;
    type Command = Arc<Conn>;
    type Watch = Never;

    fn advance(&self, _: &Arc<Seat<Self>>, core: &mut Core) -> Step<Arc<Conn>> {
        core.ready.pop_front().map_or(Step::Empty, Step::Run)
    }

    fn receive(&self, _: &Arc<Seat<Self>>, core: &mut Core, commands: &mut Vec<Arc<Conn>>) {
        core.ready.extend(commands.drain(..));
    }

    fn finished(&self, seat: &Arc<Seat<Self>>, core: &Core) -> bool {
        core.ready.is_empty() && seat.shared.is_drained()
    }

    fn has_leftovers(&self, core: &Core) -> bool {
        !core.ready.is_empty()
    }

    fn poll(&self, seat: &Arc<Seat<Self>>, core: &mut Core, block: bool) {
        let timeout = (!block).then_some(Duration::ZERO);
        seat.shared.wait(&mut core.events, timeout).unwrap();
    }

    fn too_late(&self, commands: Vec<Arc<Conn>>) {
        assert!(commands.is_empty(), "a message for a role that has ended");
    }

    fn wake(&self, seat: &Seat<Self>) {
        seat.shared.waker().wake().unwrap();
    }

    fn offer(&self, _: &Arc<Scheduler<Self>>, seat: Arc<Seat<Self>>) {
        self.offered.lock().unwrap().push(seat);
    }

    fn bring(&self, sched: &Arc<Scheduler<Self>>, work: Arc<Conn>) {
        sched.run_placed(work);
    }

    fn lane(_: &Arc<Conn>) -> Lane {
        Lane::Accepted
    }

    fn turn(work: &Arc<Conn>) -> &Turn {
        &work.turn
    }

    fn handle(&self, _: &At<Self>, work: &Arc<Conn>, _: &mut usize) -> Outcome {
        // The message is a farewell.
        *self.handled.lock().unwrap() += 1;
        drop(work.lease.lock().unwrap().take());
        Outcome::Over
    }

    fn aside(&self, _: &Arc<Seat<Self>>) {}

    fn rest(&self, _: &At<Self>, _: &Arc<Conn>) {}

    fn later(&self, _: &At<Self>, _: Arc<Conn>) {}

    fn seated(&self, _: &Seat<Self>) {}

    fn scope(&self, _: &At<Self>, f: impl FnOnce()) {
        f();
    }
}

struct Never;

impl watchdog::Watch<World> for Never {
    const QUIET_LOOKS: usize = 0;

    fn pause(&mut self, _: &Scheduler<World>, _: bool) {}

    fn may_take(&mut self, _: &Arc<Seat<World>>, _: Look) -> bool {
        false
    }

    fn took(&mut self, _: &Arc<Seat<World>>) {}
}

/// The message is handled, then the role ends, whatever comes first; and nobody sleeps on.
#[test]
fn removed_against_message() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let group = Group::new(Balance::RoundRobin);
        let sched = Arc::new(Scheduler::new(World::default(), Mode::Auto, 1, 1, 64));
        let member = Member::new(Poller::new().unwrap(), ());
        let core = Core { events: Events::with_capacity(2), ready: VecDeque::new() };
        let seat = sched.add(Arc::clone(&member), core);
        group.join(&member);

        let driver = {
            let sched = Arc::clone(&sched);
            let seat = sched.host.offered.lock().unwrap().pop().unwrap();
            thread::spawn(move || sched.drive(seat))
        };
        let lease = Mutex::new(group.pick());
        let peer = {
            let (sched, seat) = (Arc::clone(&sched), Arc::clone(&seat));
            thread::spawn(move || {
                let conn = Arc::new(Conn { turn: Turn::taken(), lease });
                seat.send(&sched.host, conn);
            })
        };
        assert!(group.remove(&member));
        assert!(group.pick().is_none());
        sched.retire(&seat);
        peer.join().unwrap();
        driver.join().unwrap();
        assert_eq!(*sched.host.handled.lock().unwrap(), 1);
        assert_eq!(seat.role.look().state(), State::Ended);
        assert!(sched.has_ended() && sched.seats().is_empty());
    });
}
