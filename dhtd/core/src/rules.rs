//! Which protective rules are in force.

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The rules that keep the protocols safe, as a run-time value: the daemon uses [`Rules::ALL`]; a test may switch
        /// one off to show that the checks find what the rule prevents.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Rules {
            $($(#[$doc])* pub $name: bool,)*
        }

        impl Rules {
            /// All of them: the only value for a daemon.
            pub const ALL: Self = Self { $($name: true,)* };

            /// Their names.
            pub const NAMES: &[&str] = &[$(stringify!($name),)*];

            /// All but the one of this name, if there is one.
            #[must_use]
            pub fn without(name: &str) -> Option<Self> {
                Self::ALL.and_without(name)
            }

            /// These but the one of this name, if there is one.
            #[must_use]
            pub fn and_without(self, name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self { $name: false, ..self }),)*
                    _ => None,
                }
            }
        }
    };
}

rules! {
    /// A closer successor is asked before it is adopted (Zave 2017, section 5: the candidate may be dead).
    verify_candidate,
    /// A successor list is replaced as a whole, by one member's answer; never only its head (Zave 2017, section 5).
    adopt_whole_list,
    /// A predecessor gives way only to a closer one, or when it is dead (Zave 2017, rectify).
    rectify_checks_predecessor,
    /// A node in the middle of an operation does not show its lists (Zave 2017: queries are atomic).
    busy_defers,
    /// A joiner starts with the successor list of its predecessor, not with one successor.
    join_takes_list,
    /// A replica answers alone only if its copy has a basis: those that come into a group together agree on nothing,
    /// and would deny what the holders before them have yet to hand over.
    basis_before_synced,
    /// When a group loses a member, nobody answers alone before the others have compared: the lost one may have told
    /// its last writes to some of them only.
    loss_ends_synced,
    /// A deletion is forgotten only when all who may hold something of the slot have it: a peer that was down comes back
    /// with what was deleted meanwhile.
    holders_confirm_deletions,
    /// A next view is chosen only if a member of the chain has promised: a majority of witnesses knows nothing of what was
    /// acknowledged.
    member_in_quorum,
    /// A view is decided only after its members hold the data.
    decide_after_levelling,
    /// The view says where the history before it ends: the members must not each go by their own log.
    frontier_in_view,
    /// A member that was made level never drops entries before the next view is in force, whatever a later attempt says.
    ready_not_shortened,
    /// A copy that was reported ready is not given up because nobody asks for it any more: it is counted on.
    ready_not_given_up,
    /// Who is behind installs the view in force before it takes part in deciding the next.
    older_views_first,
    /// The electors are those of the view in force, not those that the ring suggests.
    electors_from_view,
    /// The electors are the members and as many witnesses as make them odd in number, not the members alone.
    electors_have_witnesses,
    /// Failures do not make the electors fewer.
    electors_not_fewer,
    /// A view is decided only after a majority of those who decide the one after it have said that they know of it: some
    /// may have departed.
    next_electors_ready,
    /// Who has said that it is ready to be an elector departs only when it knows what came of it.
    ready_witness_stays,
    /// What is promised, accepted, appended or acknowledged is on disk before anybody hears of it.
    fsync_before_reply,
    /// What was accepted before must be proposed again: it may be decided.
    adopts_accepted,
    /// An attempt's number names the process that makes it: one that has restarted does not know what it has attempted.
    ballot_names_process,
    /// Who accepts a next view serves the one in force no more.
    accept_seals,
    /// A view is accepted only by who stands at the view before it.
    accepts_at_view,
    /// A next view is accepted only when no lease is out that others could serve by.
    waits_out_grants,
    /// A lease is granted only for a view that the granter stands by, too.
    grants_at_same_epoch,
    /// A restarted granter grants nothing that was not registered with it anew.
    reregister_after_restart,
    /// A restarted peer accepts nothing while a lease may be out that its earlier process has granted.
    waits_after_boot,
    /// A lease lasts from when it was asked for, not from when it was granted.
    lease_from_sending,
    /// Whether a lease holds is asked when it is used: a process may have been stopped in between.
    lease_sampled_at_use,
    /// An entry is committed when it is on disk at all members.
    commit_on_all,
    /// What is not committed is kept apart from what is.
    pending_apart,
    /// A sealed member acknowledges nothing.
    sealed_acks_nothing,
    /// A sealed member appends nothing.
    sealed_appends_nothing,
    /// A restarted member does not go on with the epoch that it was in.
    restart_seals,
    /// A view unseals only the process that it lists.
    unseals_listed_only,
    /// Who is dropped from a view remembers it for life: asked again about the one before, it must know better.
    view_records_kept,
    /// A view of a later generation is newer, whatever its number: who was left behind by a recovery may know views that
    /// whoever carried it out did not.
    generation_before_epoch,
    /// Whoever has told a recovery of its copy keeps it until the slot is started again, whatever earlier view it hears of.
    claimed_copies_kept,
    /// Only a founding writes a view of the first epoch, never somebody who should hold a slot and knows nothing of it.
    only_founding_is_first,
    /// An answer that makes no entry waits until what it rests on is committed, and for a lease.
    answers_are_reads,
    /// The outcome of a command that names itself is recorded by all members, with its entry.
    dedup_in_entry,
    /// That the condition of a command failed which names itself is recorded: a late first attempt must not succeed after
    /// the second was told so.
    records_failures,
    /// Outcomes are forgotten by the number of their entry, and by nothing else.
    outcomes_kept_by_number,
    /// A command is refused that may have been recorded so long ago that this is forgotten.
    refuses_old_requests,
    /// Who waits for a commit when the epoch ends goes on waiting: the command may be in the history yet.
    seal_keeps_waiting,
    /// What became of a command is told by the frontier of the very next view, not by that of a later one.
    only_next_view_settles,
    /// The host carries out outputs in order: what a read may see is looked up before anything is stored that comes
    /// later. The view may be another by then.
    reads_in_order,
    /// A read shares only a question to the head that was not yet sent when the read began.
    fresh_frontier,
    /// A next view is on disk before anything is done by right of it.
    install_before_use,
    /// A next view is stored as a whole: were it on disk without the cut that goes with it, entries would come back that
    /// were refused.
    install_as_a_whole,
    /// A transfer replaces what is there.
    transfers_replace,
}
