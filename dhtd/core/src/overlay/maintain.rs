//! Ring maintenance: stabilize and rectify (Zave 2017, section 4), one operation at a time for each node.

use super::{
    interface::Timer,
    message::{Body, OpId},
    node::{NodeState, Op, OpKind, successor_list},
    peer::Node,
    state::State,
};
use crate::ring::{PeerId, between};

impl State {
    /// A node's periodic maintenance.
    pub(super) fn stabilize(&mut self, index: usize) {
        let again = self.jittered(self.config.stabilize_every);
        self.set_timer(again, Timer::Stabilize(self.nodes[index].node.index));
        self.start_operation(index);
        self.fix_fingers(index);
    }

    /// Starts the operation that is due, unless one is in flight.
    pub(super) fn start_operation(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if !node.member || node.op.is_some() {
            return;
        }
        if let Some(candidate) = node.candidate.take().filter(|candidate| node.is_closer(candidate)) {
            return self.ask(index, OpKind::Candidate, candidate);
        }
        match (node.successors.first().copied(), node.predecessor) {
            (Some(successor), _) => self.ask(index, OpKind::Successor, successor),
            // A ring of one that somebody has joined: the one before is also the one behind.
            (None, Some(before)) if before != node.node => self.ask(index, OpKind::Candidate, before),
            (None, Some(_)) => {}
            // All others are dead: a ring of one, until one of them comes back.
            (None, None) => {
                node.predecessor = Some(node.node);
                node.accepted = true;
                self.changed = true;
            }
        }
    }

    fn ask(&mut self, index: usize, kind: OpKind, target: Node) {
        let number = self.next_number();
        self.nodes[index].op = Some(Op { number, kind, target, attempts: 0, timer: 0 });
        self.send_question(index);
    }

    fn send_question(&mut self, index: usize) {
        let from = self.nodes[index].node;
        let Some(op) = &mut self.nodes[index].op else { return };
        op.attempts += 1;
        let (target, number) = (op.target, op.number);
        self.wait_for_answer(index, 1);
        let op = OpId { node: from.index, number };
        self.send(target.peer, Body::GetNeighbours { op, from, to: target });
    }

    /// Gives the operation so many time-outs from now on, whatever it had before.
    fn wait_for_answer(&mut self, index: usize, time_outs: u32) {
        let node = self.nodes[index].node.index;
        let Some(op) = &mut self.nodes[index].op else { return };
        op.timer += 1;
        let timer = Timer::Operation(OpId { node, number: op.number }, op.timer);
        let wait = self.directory.time_out(op.target.peer) * time_outs;
        self.set_timer(wait, timer);
    }

    /// A node asks one of ours for its neighbours.
    pub(super) fn asked_for_neighbours(&mut self, op: OpId, from: Node, to: Node) {
        let Some(index) = self.own_member(&to) else {
            return self.send(from.peer, Body::NotMember { op, of: to });
        };
        if self.rules.busy_defers && self.nodes[index].op.is_some() {
            let waiting = &mut self.nodes[index].waiting;
            waiting.retain(|(asker, _)| *asker != from);
            waiting.push((from, op));
            self.send(from.peer, Body::Busy { op });
        } else {
            self.show_neighbours(index, op, from);
        }
        self.consider(from);
    }

    fn show_neighbours(&mut self, index: usize, op: OpId, to: Node) {
        let NodeState { node: of, predecessor, successors, .. } = &self.nodes[index];
        let body = Body::Neighbours { op, of: *of, predecessor: *predecessor, successors: successors.clone() };
        self.send(to.peer, body);
    }

    /// The answer to an operation of ours.
    pub(super) fn neighbours(&mut self, op: OpId, of: Node, predecessor: Option<Node>, successors: &[Node]) {
        let Some((index, current)) = self.current(op).filter(|(_, current)| current.target == of) else { return };
        match current.kind {
            OpKind::Successor => {
                self.adopt(index, of, successors);
                self.compare_predecessors(index, predecessor);
                match predecessor.filter(|p| self.may_list(p) && self.nodes[index].is_closer(p)) {
                    Some(closer) if self.rules.verify_candidate => self.ask(index, OpKind::Candidate, closer),
                    Some(closer) => {
                        self.adopt(index, closer, &[of]);
                        self.finish(index);
                    }
                    None => self.finish(index),
                }
            }
            OpKind::Candidate => {
                if self.nodes[index].is_closer(&of) {
                    self.adopt(index, of, successors);
                }
                self.finish(index);
            }
        }
        for node in predecessor.iter().chain(successors) {
            self.consider(*node);
        }
    }

    /// The asked node is itself in the middle of an operation: it will answer when that is over, which is at most two
    /// of its time-outs away.
    pub(super) fn target_is_busy(&mut self, op: OpId) {
        if let Some((index, _)) = self.current(op) {
            self.wait_for_answer(index, PATIENCE_IF_OTHERS_WAIT + 1);
        }
    }

    /// The asked peer lives, but the node is no member: it leaves our tables as if it were dead.
    pub(super) fn target_is_no_member(&mut self, op: OpId, of: Node) {
        if let Some((index, _)) = self.current(op).filter(|(_, current)| current.target == of) {
            self.give_up_target(index);
        }
    }

    pub(super) fn operation_timed_out(&mut self, op: OpId, timer: u64) {
        let Some((index, current)) = self.current(op).filter(|(_, current)| current.timer == timer) else { return };
        if !self.nodes[index].waiting.is_empty() && current.attempts >= PATIENCE_IF_OTHERS_WAIT {
            // Nothing has changed yet. Were everyone to insist, all nodes around the ring could wait for each other.
            self.nodes[index].op = None;
            self.answer_waiting(index);
            self.retry_soon(index);
        } else if current.attempts < MAX_ATTEMPTS {
            self.send_question(index);
        } else {
            self.give_up_target(index);
        }
    }

    /// The peer of an operation's target is dead. Its nodes are in no table any more.
    pub(super) fn operation_target_died(&mut self, index: usize, peer: PeerId) {
        if self.nodes[index].op.is_some_and(|op| op.target.peer == peer) {
            self.give_up_target(index);
        }
    }

    fn give_up_target(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(op) = node.op.take() else { return };
        node.forget(|known| *known == op.target);
        self.changed = true;
        match op.kind {
            OpKind::Successor if !node.successors.is_empty() => self.start_operation(index),
            OpKind::Successor => self.answer_waiting(index),
            OpKind::Candidate => self.finish(index),
        }
    }

    /// Ends the operation: the successor hears of us, and whoever waited gets an answer.
    fn finish(&mut self, index: usize) {
        let state = &mut self.nodes[index];
        state.op = None;
        let (from, to) = (state.node, state.successor());
        if to != from {
            let successors = state.successors.clone();
            self.send(to.peer, Body::Notify { from, to, successors });
        }
        self.answer_waiting(index);
        self.tell_predecessor(index);
        if !self.nodes[index].accepted {
            self.retry_soon(index);
        }
        if self.nodes[index].candidate.is_some() {
            self.start_operation(index);
        }
    }

    /// News travel backwards around the ring, one node a round. This spares them the wait for the rounds.
    fn tell_predecessor(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let (from, before) = (node.node, node.predecessor.filter(|before| before.id != node.node.id));
        if let Some(to) = before.filter(|_| std::mem::take(&mut node.list_changed)) {
            self.send(to.peer, Body::Changed { from, to });
        }
    }

    /// The successor of one of ours has news.
    pub(super) fn successor_changed(&mut self, from: Node, to: Node) {
        let Some(index) = self.own_member(&to).filter(|index| self.nodes[*index].successor() == from) else { return };
        if self.nodes[index].accepted {
            self.retry_soon(index);
        } else {
            // The news is that it has accepted us. Until we know that, nobody answers for our interval.
            self.start_operation(index);
        }
    }

    /// One extra round after a tenth of the usual time, however many reasons there are for one: a change costs a
    /// bounded number of messages, and many changes at once cost no more than one.
    pub(super) fn retry_soon(&mut self, index: usize) {
        if !std::mem::replace(&mut self.nodes[index].retry_set, true) {
            let soon = self.jittered(self.config.stabilize_every / 10);
            self.set_timer(soon, Timer::Retry(self.nodes[index].node.index));
        }
    }

    pub(super) fn retry(&mut self, index: usize) {
        self.nodes[index].retry_set = false;
        self.start_operation(index);
    }

    fn answer_waiting(&mut self, index: usize) {
        for (asker, op) in std::mem::take(&mut self.nodes[index].waiting) {
            self.show_neighbours(index, op, asker);
        }
    }

    /// Rectify: a node thinks that it is the predecessor of one of ours.
    pub(super) fn notified(&mut self, from: Node, to: Node, successors: &[Node]) {
        let Some(index) = self.own_member(&to) else { return };
        if from != to && self.may_list(&from) {
            let node = &mut self.nodes[index];
            let closer = node.predecessor.is_none_or(|before| between(before.id, from.id, node.node.id));
            let replaces = (closer || !self.rules.rectify_checks_predecessor) && node.predecessor != Some(from);
            if replaces {
                node.set_predecessor(from);
                self.changed = true;
                self.greet_predecessor(index);
            } else {
                node.passed_over(from);
            }
            if self.nodes[index].successors.is_empty() {
                self.start_operation(index);
            }
        }
        for node in std::iter::once(&from).chain(successors) {
            self.consider(*node);
        }
    }

    /// The predecessor is a new one: it is told that it is accepted.
    pub(super) fn greet_predecessor(&mut self, index: usize) {
        let NodeState { node: from, predecessor, .. } = self.nodes[index];
        if let Some(to) = predecessor {
            self.send(to.peer, Body::Changed { from, to });
        }
    }

    /// Somebody speaks of a node. If it would be a better successor of one of ours, it is asked; only its own answer
    /// makes it one.
    pub(super) fn consider(&mut self, node: Node) {
        if !self.may_list(&node) {
            return;
        }
        for index in 0..self.nodes.len() {
            let state = &mut self.nodes[index];
            let better = state.member
                && state.is_closer(&node)
                && state.candidate.is_none_or(|other| between(state.node.id, node.id, other.id));
            if better {
                state.candidate = Some(node);
                self.start_operation(index);
            }
        }
    }

    /// `head + list` becomes the successor list.
    pub(super) fn adopt(&mut self, index: usize, head: Node, list: &[Node]) {
        let me = self.nodes[index].node;
        let nodes: Vec<Node> = if self.rules.adopt_whole_list {
            std::iter::once(head).chain(list.iter().copied()).collect()
        } else {
            std::iter::once(head).chain(self.nodes[index].successors.iter().copied().filter(|n| *n != head)).collect()
        };
        let adopted =
            successor_list(me, nodes, self.reach(), |node| self.may_list(node), |peer| !self.directory.leaving(peer));
        if adopted != self.nodes[index].successors {
            self.nodes[index].successors = adopted;
            self.nodes[index].list_changed = true;
            self.changed = true;
        }
    }

    /// What the successor takes for its predecessor. If that is this node, it has been accepted. If it lies behind this
    /// node, but before the predecessor that this one knows of, another has joined in between: it owns what is behind it.
    fn compare_predecessors(&mut self, index: usize, of_successor: Option<Node>) {
        let nearer = of_successor.filter(|node| self.may_list(node));
        let state = &mut self.nodes[index];
        if of_successor == Some(state.node) && !state.accepted {
            state.accepted = true;
            self.changed = true;
        } else if let Some(nearer) = nearer
            && state.predecessor.is_some_and(|before| between(before.id, nearer.id, state.node.id))
        {
            state.set_predecessor(nearer);
            self.changed = true;
        }
    }

    /// R: how many distinct other peers a successor list reaches over, or all that are known if they are fewer.
    pub(super) fn reach(&self) -> usize {
        let wanted = self.wanted_reach();
        wanted.min(self.directory.members(wanted).max(1))
    }

    /// R = max(r, k + 1): how many distinct other peers a successor list reaches over, if there are so many.
    #[must_use]
    pub fn wanted_reach(&self) -> usize {
        self.config.successors.max(self.ring.map_or(0, |ring| ring.replicas + 1))
    }

    /// The node may stand in our tables.
    pub(super) fn may_list(&self, node: &Node) -> bool {
        if node.peer == self.me.id { self.own_member(node).is_some() } else { self.directory.usable_node(node) }
    }

    pub(super) fn own_member(&self, node: &Node) -> Option<usize> {
        let index = node.index as usize;
        let own = self.nodes.get(index)?;
        (own.node == *node && own.member && !self.gone).then_some(index)
    }

    /// The operation, if it is still the one in flight.
    fn current(&self, op: OpId) -> Option<(usize, Op)> {
        let index = op.node as usize;
        let current = self.nodes.get(index)?.op?;
        (current.number == op.number).then_some((index, current))
    }
}

/// Questions asked before a silent node of a live peer is given up. The failure detector is the quicker judge of dead
/// peers; this is for a node that its peer does not answer for. A guess.
const MAX_ATTEMPTS: u32 = 6;

/// Time-outs after which an operation gives way to others that wait for this node (DESIGN, section 4).
const PATIENCE_IF_OTHERS_WAIT: u32 = 2;
