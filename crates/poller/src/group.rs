//! Many pollers, and which of them gets the next connection.
//!
//! A member's `load` counts its leases in the upper bits; the lowest two say that it was put into a
//! group, and that it was removed.
//!
//! G1. Leases are made under the read lock, members leave under the write lock: whoever was removed
//!     gets no new lease.
//! G2. The count and the removal share one atomic, so that either the removal or the last lease
//!     finds the member drained, and wakes its poller.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use crate::poller::Poller;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Counter, RwLock, read, write};

/// How a [`Group`] chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Balance {
    /// One after another.
    #[default]
    RoundRobin,
    /// Any, with equal chances.
    Random,
    /// The one with the fewest leases; among equals, one after another.
    #[doc(alias = "LeastConn")]
    LeastConnections,
}

/// Pollers that share the connections of a program.
///
/// Each [`Member`] is a poller with a value of yours. [`pick`](Self::pick) chooses one for a new
/// connection, and the [`Lease`] that it returns counts the connection for as long as it lives.
/// Members can be added and removed at any time, from any thread.
///
/// ```
/// use poller::{Balance, Group};
///
/// let group = Group::new(Balance::LeastConnections);
/// let first = group.add("first")?;
/// let second = group.add("second")?;
///
/// let lease = group.pick().unwrap();
/// let other = group.pick().unwrap();
/// assert_ne!(lease.data(), other.data());
///
/// group.remove(&first);
/// assert!(!first.is_drained()); // its connection lives on
/// drop((lease, other));
/// assert!(first.is_drained());
/// assert_eq!(group.pick().unwrap().data(), &"second");
/// # let _ = second;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Group<T = ()> {
    members: RwLock<Members<T>>,
    turn: AtomicUsize,
    seed: u64,
}

struct Members<T> {
    list: Vec<Arc<Member<T>>>,
    balance: Balance,
}

/// A poller of a [`Group`], with a value of yours. Dereferences to its [`Poller`].
pub struct Member<T = ()> {
    poller: Poller,
    data: T,
    /// Leases times `LEASE`, plus `JOINED` and `REMOVED`.
    load: AtomicU64,
    picked: Counter,
}

const REMOVED: u64 = 1;
const JOINED: u64 = 2;
const LEASE: u64 = 4;
/// Joined, removed, and without a lease.
const DRAINED: u64 = JOINED | REMOVED;

impl<T> Group<T> {
    /// A group without members.
    pub fn new(balance: Balance) -> Group<T> {
        Group {
            members: RwLock::new(Members { list: Vec::new(), balance }),
            turn: AtomicUsize::new(0),
            seed: RandomState::new().hash_one(0),
        }
    }

    /// Adds a new poller, with a value of yours.
    ///
    /// # Errors
    ///
    /// As [`Poller::new`].
    pub fn add(&self, data: T) -> io::Result<Arc<Member<T>>> {
        let member = Member::new(Poller::new()?, data);
        self.join(&member);
        Ok(member)
    }

    /// Adds a member that was made before: from now on it is picked. Whether that is new: a member
    /// joins one group, once.
    pub fn join(&self, member: &Arc<Member<T>>) -> bool {
        let mut members = write(&self.members);
        // ORDERING: the lock orders this with picking and removing.
        let new = member.load.fetch_or(JOINED, Ordering::Relaxed) & JOINED == 0;
        if new {
            members.list.push(Arc::clone(member));
        }
        new
    }

    /// Takes a member out: it is not picked any more, and its poller is woken to notice. What it
    /// has stays with it; [`Member::is_drained`] tells when that is gone. Whether it was in the
    /// group.
    pub fn remove(&self, member: &Member<T>) -> bool {
        let mut members = write(&self.members);
        let Some(at) = members.list.iter().position(|other| std::ptr::eq(&**other, member)) else {
            return false;
        };
        let member = members.list.remove(at);
        if !cfg!(netpoll_mutant = "remove-without-mark") {
            // ORDERING: G2. Release: what came before the removal is seen by whoever finds the
            // member drained.
            member.load.fetch_or(REMOVED, Ordering::Release);
        }
        drop(members);
        member.wake();
        true
    }

    /// Chooses a member for a new connection; `None` if there are none.
    #[doc(alias = "Pick")]
    pub fn pick(&self) -> Option<Lease<T>> {
        let members = read(&self.members);
        let list = &members.list;
        let len = list.len();
        if len == 0 {
            return None;
        }
        // ORDERING: whose turn it is orders nothing.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let member = match members.balance {
            Balance::RoundRobin => &list[turn % len],
            Balance::Random => &list[random(self.seed, turn as u64, len)],
            Balance::LeastConnections => {
                let all = (0..len).map(|at| &list[(turn % len + at) % len]);
                all.min_by_key(|member| member.connections())?
            }
        };
        Some(Lease::new(Arc::clone(member)))
    }

    /// A place on this member, for a connection that is to be nowhere else; `None` if it is not in
    /// the group (any more).
    pub fn lease(&self, member: &Arc<Member<T>>) -> Option<Lease<T>> {
        let members = read(&self.members);
        let is_member = members.list.iter().any(|other| Arc::ptr_eq(other, member));
        is_member.then(|| Lease::new(Arc::clone(member)))
    }

    /// Changes how the next ones are chosen.
    pub fn set_balance(&self, balance: Balance) {
        write(&self.members).balance = balance;
    }

    /// How the next one is chosen.
    pub fn balance(&self) -> Balance {
        read(&self.members).balance
    }

    /// The members now, in the order in which they joined.
    pub fn members(&self) -> Vec<Arc<Member<T>>> {
        read(&self.members).list.clone()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        read(&self.members).list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Member<T> {
    /// A member that is in no group yet; see [`Group::join`].
    pub fn new(poller: Poller, data: T) -> Arc<Member<T>> {
        let load = AtomicU64::new(0);
        Arc::new(Member { poller, data, load, picked: Counter::default() })
    }

    /// The poller, to which this also dereferences.
    pub fn poller(&self) -> &Poller {
        &self.poller
    }

    /// The value that it was added with.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// How many leases there are.
    pub fn connections(&self) -> usize {
        // ORDERING: a hint for balancing.
        (self.load.load(Ordering::Relaxed) / LEASE) as usize
    }

    /// How often it was picked.
    pub fn picked(&self) -> u64 {
        self.picked.get()
    }

    /// Whether it was removed from its group.
    pub fn is_removed(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `Group::remove`.
        self.load.load(Ordering::Acquire) & REMOVED != 0
    }

    /// Whether it was removed and its last lease is gone: nothing will come any more. The poller is
    /// woken when that happens.
    pub fn is_drained(&self) -> bool {
        // ORDERING: Acquire pairs with the Releases in `Group::remove` and in dropping a lease:
        // everything that was done under a lease is seen.
        self.load.load(Ordering::Acquire) == DRAINED
    }

    fn wake(&self) {
        // Writing to an eventfd has no reason to fail, and nobody here could do anything about it.
        let _ = self.poller.waker().wake();
    }
}

impl<T> Deref for Member<T> {
    type Target = Poller;

    fn deref(&self) -> &Poller {
        &self.poller
    }
}

/// A connection's place on a [`Member`], counted until dropped. Dereferences to the member.
pub struct Lease<T = ()> {
    member: Arc<Member<T>>,
}

impl<T> Lease<T> {
    fn new(member: Arc<Member<T>>) -> Lease<T> {
        member.picked.add(1);
        // ORDERING: the group's read lock orders this before a removal (G1).
        member.load.fetch_add(LEASE, Ordering::Relaxed);
        Lease { member }
    }

    /// The member, shared.
    pub fn member(&self) -> &Arc<Member<T>> {
        &self.member
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        let order = if cfg!(netpoll_mutant = "lease-drop-relaxed") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        // ORDERING: Release pairs with the Acquire in `is_drained`, for what was done under the
        // lease. G2.
        let before = self.member.load.fetch_sub(LEASE, order);
        if before == LEASE | DRAINED && !cfg!(netpoll_mutant = "lease-drop-without-wake") {
            self.member.wake();
        }
    }
}

impl<T> Deref for Lease<T> {
    type Target = Member<T>;

    fn deref(&self) -> &Member<T> {
        &self.member
    }
}

/// The `turn`th number of a sequence that `seed` chose, below `len`.
fn random(seed: u64, turn: u64, len: usize) -> usize {
    // A Weyl sequence and two rounds of multiply and shift: neighbours share nothing visible.
    let mut mixed = seed.wrapping_add(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^= mixed >> 32;
    // The high half of a product spreads over `len` without a division.
    ((u128::from(mixed) * len as u128) >> 64) as usize
}

impl<T> fmt::Debug for Group<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = read(&self.members);
        f.debug_struct("Group")
            .field("balance", &members.balance)
            .field("members", &members.list)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Member<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("connections", &self.connections())
            .field("removed", &self.is_removed())
            .field("poller", &self.poller)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.member).finish()
    }
}

#[cfg(all(test, not(netpoll_loom)))]
mod tests {
    use super::*;
    use crate::event::Events;

    fn group(balance: Balance, members: usize) -> Group<usize> {
        let group = Group::new(balance);
        (0..members).for_each(|n| drop(group.add(n).unwrap()));
        group
    }

    fn spread(group: &Group<usize>, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; group.len()];
        (0..picks).for_each(|_| counts[*group.pick().unwrap().data()] += 1);
        counts
    }

    #[test]
    fn round_robin_is_even() {
        assert_eq!(spread(&group(Balance::RoundRobin, 3), 300), [100, 100, 100]);
    }

    #[test]
    fn random_is_nearly_even() {
        for members in [2, 3, 7] {
            let picks = 7000 * members;
            for count in spread(&group(Balance::Random, members), picks) {
                // Over six standard deviations of room.
                assert!((6500..7500).contains(&count), "{count} of {picks} over {members}");
            }
        }
    }

    #[test]
    fn least_connections_evens_out() {
        let group = group(Balance::LeastConnections, 3);
        let leases: Vec<_> = (0..30).map(|_| group.pick().unwrap()).collect();
        assert!(group.members().iter().all(|member| member.connections() == 10));
        let gone = *leases[0].data();
        let (gone_leases, rest): (Vec<_>, Vec<_>) =
            leases.into_iter().partition(|lease| *lease.data() == gone);
        drop(gone_leases);
        let new: Vec<_> = (0..10).map(|_| group.pick().unwrap()).collect();
        assert!(new.iter().all(|lease| *lease.data() == gone));
        drop(rest);
        // Without load, ties go round.
        drop(new);
        assert_eq!(spread(&group, 300), [100, 100, 100]);
    }

    #[test]
    fn growing_and_shrinking() {
        let group = group(Balance::RoundRobin, 1);
        let first = group.members().remove(0);
        let lease = group.pick().unwrap();
        let second = group.add(1).unwrap();
        assert!(group.remove(&first));
        assert!(!group.remove(&first), "it is gone already");
        let mut events = Events::with_capacity(1);
        first.wait(&mut events, None).unwrap();
        assert!(events.is_woken(), "the removal wakes");
        assert!(first.is_removed() && !first.is_drained());
        (0..10).for_each(|_| assert_eq!(group.pick().unwrap().data(), second.data()));
        assert!(group.lease(&first).is_none() && !group.join(&first), "there is no way back");
        drop(lease);
        first.wait(&mut events, None).unwrap();
        assert!(events.is_woken() && first.is_drained(), "the last lease wakes");
        assert_eq!((first.picked(), second.picked()), (1, 10));
        drop(group.lease(&second).unwrap());
        group.remove(&second);
        assert!(second.is_drained() && group.pick().is_none() && group.is_empty());
    }

    #[test]
    fn members_of_another_group_are_strangers() {
        let (one, two) = (group(Balance::Random, 1), group(Balance::Random, 1));
        assert!(!one.remove(&two.members()[0]));
        assert_eq!((one.len(), two.len()), (1, 1));
    }
}
