//! Who may read and who may act over the control socket: by the credentials of the peer process.

use crate::time::Instant;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::unistd::{Group, Uid, User};
use tokio::net::UnixStream;

use crate::config::plan::ControlPlan;
use crate::io::peer::peer_groups;
use crate::supervisor::control::Actor;

/// How long a group's number is taken from memory: `/etc/group` may be a directory service across the network.
const REMEMBER: Duration = Duration::from_secs(10);

/// The process at the other end of the control socket, as it was when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The process; 0: in another PID namespace.
    pub pid: i32,
}

impl Peer {
    /// By SO_PEERCRED and SO_PEERGROUPS.
    ///
    /// # Errors
    /// The error of getsockopt(2).
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let cred = stream.peer_cred()?;
        let groups = peer_groups(stream.as_fd())?;
        Ok(Self { uid: cred.uid(), gid: cred.gid(), groups, pid: cred.pid().unwrap_or(0) })
    }

    fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// The actor, if the user database does not answer.
    pub(super) fn unnamed_actor(&self) -> Actor {
        Actor { uid: self.uid, pid: self.pid, name: format!("uid {}", self.uid) }
    }

    /// For the log and for status. Asks the user database, which may block: call it off the runtime's thread.
    pub fn actor(&self) -> Actor {
        match User::from_uid(Uid::from_raw(self.uid)) {
            Ok(Some(user)) => Actor { name: user.name, ..self.unnamed_actor() },
            _ => self.unnamed_actor(),
        }
    }
}

/// `[control]`, with the groups' numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The daemon's own user: may do everything, as root may.
    pub own_uid: u32,
    /// The group that may act, and read; `None`: no such group on this host.
    pub operators: Option<u32>,
    /// Who may read besides.
    pub readers: Readers,
}

/// `[control] readers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Every local user.
    Everyone,
    /// The members of a group; `None`: no such group on this host.
    Group(Option<u32>),
}

impl Rules {
    /// Asks the group database, which may block: call it off the runtime's thread.
    fn look_up(plan: &ControlPlan) -> Self {
        Self {
            own_uid: Uid::effective().as_raw(),
            operators: number(&plan.operators),
            readers: plan.readers.as_deref().map_or(Readers::Everyone, |name| Readers::Group(number(name))),
        }
    }
}

/// Whether the peer may change what runs.
pub fn may_act(peer: &Peer, rules: &Rules) -> bool {
    peer.uid == 0 || peer.uid == rules.own_uid || rules.operators.is_some_and(|gid| peer.is_in(gid))
}

/// Whether the peer may read.
pub fn may_read(peer: &Peer, rules: &Rules) -> bool {
    may_act(peer, rules)
        || match rules.readers {
            Readers::Everyone => true,
            Readers::Group(gid) => gid.is_some_and(|gid| peer.is_in(gid)),
        }
}

/// Whether the peer is in one of these groups. Those that this host does not have have no members.
pub(super) async fn is_in_one_of(peer: &Peer, groups: Vec<String>) -> bool {
    if groups.is_empty() {
        return false;
    }
    let peer = peer.clone();
    // It asks the group database, which may block.
    let look_up = move || groups.iter().filter_map(|name| number(name)).any(|gid| peer.is_in(gid));
    tokio::task::spawn_blocking(look_up).await.unwrap_or(false)
}

/// A group's number on this host.
fn number(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|g| g.gid.as_raw())
}

/// In words, why the peer may not act. `more`: the groups that the flow in question lets act.
pub(super) fn acting_takes(peer: &Peer, plan: &ControlPlan, rules: &Rules, more: &[String]) -> String {
    if let [groups @ .., last] = more {
        let groups: String = [&plan.operators].into_iter().chain(groups).map(|name| format!("'{name}', ")).collect();
        let uid = peer.uid;
        let groups = groups.trim_end_matches(", ");
        return format!(
            "only root and members of the groups {groups} and '{last}' may do this, and uid {uid} is neither"
        );
    }
    takes("do this", peer, &plan.operators, rules.operators.is_some())
}

/// In words, why the peer may not read.
pub(super) fn reading_takes(peer: &Peer, plan: &ControlPlan, rules: &Rules) -> String {
    let group = plan.readers.as_deref().unwrap_or(&plan.operators);
    takes("read this", peer, group, matches!(rules.readers, Readers::Group(Some(_))))
}

fn takes(what: &str, peer: &Peer, group: &str, exists: bool) -> String {
    let uid = peer.uid;
    let next = if exists {
        "a new membership counts from the next login"
    } else {
        "this host has no such group, see [control] in mediaconnect.toml"
    };
    format!("only root and members of the group '{group}' may {what}, and uid {uid} is neither ({next})")
}

/// The rules of the plan last asked about, for a short while.
#[derive(Debug, Default)]
pub(super) struct RulesCache(std::cell::RefCell<Option<(ControlPlan, Rules, Instant)>>);

impl RulesCache {
    /// The rules that `plan` makes on this host now.
    pub(super) async fn rules(&self, plan: ControlPlan) -> Rules {
        if let Some((of, rules, since)) = &*self.0.borrow()
            && *of == plan
            && since.elapsed() < REMEMBER
        {
            return *rules;
        }
        let asked = plan.clone();
        let nobody = Rules { own_uid: Uid::effective().as_raw(), operators: None, readers: Readers::Group(None) };
        let rules = tokio::task::spawn_blocking(move || Rules::look_up(&asked)).await.unwrap_or(nobody);
        self.0.replace(Some((plan, rules, Instant::now())));
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { own_uid: 990, operators: Some(500), readers: Readers::Everyone };

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer { uid, gid, groups: groups.to_vec(), pid: 1 }
    }

    #[test]
    fn root_the_daemons_own_user_and_operators_may_act() {
        for (who, may) in [
            (peer(0, 0, &[]), true),
            (peer(990, 990, &[]), true),
            (peer(1000, 500, &[]), true),
            (peer(1000, 1000, &[4, 24, 500]), true),
            (peer(1000, 1000, &[4, 24]), false),
            (peer(500, 1000, &[]), false),
        ] {
            assert_eq!(may_act(&who, &RULES), may, "{who:?}");
            assert!(may_read(&who, &RULES), "{who:?}");
        }
    }

    #[test]
    fn a_refusal_names_all_groups_that_may() {
        let plan = ControlPlan { operators: "ops".into(), readers: None };
        let who = peer(1000, 1000, &[]);
        let takes = |more: &[&str]| {
            acting_takes(&who, &plan, &RULES, &more.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert!(takes(&[]).starts_with("only root and members of the group 'ops' may do this"), "{}", takes(&[]));
        assert_eq!(
            takes(&["news", "night"]),
            "only root and members of the groups 'ops', 'news' and 'night' may do this, and uid 1000 is neither"
        );
    }

    #[test]
    fn without_the_operators_group_only_root_and_the_own_user_act() {
        let rules = Rules { operators: None, ..RULES };
        assert!(may_act(&peer(0, 0, &[]), &rules));
        assert!(may_act(&peer(990, 990, &[]), &rules));
        assert!(!may_act(&peer(1000, 500, &[500]), &rules));
    }

    #[test]
    fn readers_of_a_group_are_its_members_and_the_operators() {
        let rules = Rules { readers: Readers::Group(Some(600)), ..RULES };
        for (who, may) in [
            (peer(1000, 600, &[]), true),
            (peer(1000, 1000, &[600]), true),
            (peer(1000, 1000, &[500]), true),
            (peer(0, 0, &[]), true),
            (peer(990, 990, &[]), true),
            (peer(1000, 1000, &[1]), false),
        ] {
            assert_eq!(may_read(&who, &rules), may, "{who:?}");
        }
        assert!(!may_act(&peer(1000, 600, &[600]), &rules), "a reader does not act");
    }

    #[test]
    fn an_unknown_readers_group_lets_nobody_in_but_operators_root_and_the_own_user() {
        let rules = Rules { readers: Readers::Group(None), ..RULES };
        assert!(!may_read(&peer(1000, 1000, &[600]), &rules));
        assert!(may_read(&peer(1000, 1000, &[500]), &rules));
        assert!(may_read(&peer(0, 0, &[]), &rules));
    }
}
