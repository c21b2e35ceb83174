//! How many descriptors the process may have open.

use std::io;

use super::errno::check;

/// The limits on open descriptors: see [`nofile_limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimit {
    /// What holds now; the process may change it up to `hard`.
    pub soft: u64,
    /// What `soft` may be raised to.
    pub hard: u64,
}

/// How many descriptors the process may have open.
///
/// # Errors
///
/// None that the kernel documents.
pub fn nofile_limit() -> io::Result<FileLimit> {
    let raw = get()?;
    Ok(FileLimit { soft: raw.rlim_cur as u64, hard: raw.rlim_max as u64 })
}

/// Raises the soft limit as far as the hard one allows, and says what it is now.
///
/// # Errors
///
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied) where a sandbox forbids it.
pub fn raise_nofile_limit() -> io::Result<u64> {
    let raw = get()?;
    if raw.rlim_cur < raw.rlim_max {
        set(libc::rlimit { rlim_cur: raw.rlim_max, ..raw })?;
    }
    nofile_limit().map(|limit| limit.soft)
}

/// Sets the soft limit. Descriptors that are open beyond it stay open.
///
/// # Errors
///
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for more than the hard limit.
pub fn set_nofile_limit(soft: u64) -> io::Result<()> {
    let raw = get()?;
    let soft = libc::rlim_t::try_from(soft).unwrap_or(libc::rlim_t::MAX);
    set(libc::rlimit { rlim_cur: soft, ..raw })
}

fn get() -> io::Result<libc::rlimit> {
    let mut raw = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `raw` is writable.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut raw) })?;
    Ok(raw)
}

fn set(raw: libc::rlimit) -> io::Result<()> {
    // SAFETY: `raw` is readable.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_and_rise() {
        let before = nofile_limit().unwrap();
        assert!(before.soft > 0 && before.soft <= before.hard);
        assert_eq!(raise_nofile_limit().unwrap(), before.hard);
        assert!(set_nofile_limit(before.hard - 1).is_ok());
        assert_eq!(nofile_limit().unwrap().soft, before.hard - 1);
        set_nofile_limit(before.soft).unwrap();
        if before.hard < u64::MAX {
            let error = set_nofile_limit(before.hard + 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
