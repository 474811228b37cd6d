//! CPU time of processes, as the kernel accounts for it.

use std::{fs, io, time::Duration};

/// CPU time that a process has used so far, user and system, all its threads, those that have ended too. The kernel
/// reports it in ticks of 10 ms.
///
/// # Errors
/// If there is no such process.
pub(crate) fn of_process(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat makes no sense: {stat}")))?;
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).map_err(io::Error::other)?)
}

/// CPU time of several processes together.
///
/// # Errors
/// If one of them does not exist.
pub(crate) fn of_all(pids: &[u32]) -> io::Result<Duration> {
    pids.iter().map(|pid| of_process(*pid)).sum()
}

/// utime + stime, fields 14 and 15 of proc_pid_stat(5). The name, field 2, may hold anything, blanks and brackets too.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 9 9 20 0 4 0 100";
        assert_eq!(ticks(stat), Some(175));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn this_process_is_accounted_for() {
        assert!(of_process(std::process::id()).is_ok());
    }
}
