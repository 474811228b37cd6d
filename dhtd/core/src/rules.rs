//! Which protective rules are in force.

/// The rules that keep the protocols safe, as a run-time value: the daemon uses [`Rules::ALL`]; a test may switch one
/// off to show that the checks find what the rule prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A closer successor is asked before it is adopted (Zave 2017, section 5: the candidate may be dead).
    pub verify_candidate: bool,
    /// A successor list is replaced as a whole, by one member's answer; never only its head (Zave 2017, section 5).
    pub adopt_whole_list: bool,
    /// A predecessor gives way only to a closer one, or when it is dead (Zave 2017, rectify).
    pub rectify_checks_predecessor: bool,
    /// A node in the middle of an operation does not show its lists (Zave 2017: queries are atomic).
    pub busy_defers: bool,
    /// A joiner starts with the successor list of its predecessor, not with one successor.
    pub join_takes_list: bool,
    /// A replica answers alone only if its copy has a basis: those that come into a group together agree on nothing,
    /// and would deny what the holders before them have yet to hand over.
    pub basis_before_synced: bool,
    /// When a group loses a member, nobody answers alone before the others have compared: the lost one may have told
    /// its last writes to some of them only.
    pub loss_ends_synced: bool,
    /// A deletion is forgotten only when all who may hold something of the slot have it: a peer that was down comes back
    /// with what was deleted meanwhile.
    pub holders_confirm_deletions: bool,
}

impl Rules {
    /// All of them: the only value for a daemon.
    pub const ALL: Self = Self {
        verify_candidate: true,
        adopt_whole_list: true,
        rectify_checks_predecessor: true,
        busy_defers: true,
        join_takes_list: true,
        basis_before_synced: true,
        loss_ends_synced: true,
        holders_confirm_deletions: true,
    };
}
