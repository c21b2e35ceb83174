//! The files that Unix sockets leave in the file system.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Which file it is, whatever its name: device and inode. A number is not reused while a socket
/// that was bound to the file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

/// The socket file at `path`; `None` if the file there is of another kind.
///
/// # Errors
///
/// [`NotFound`](io::ErrorKind::NotFound), [`PermissionDenied`](io::ErrorKind::PermissionDenied) and
/// others of `lstat`.
pub fn socket_file(path: &Path) -> io::Result<Option<FileId>> {
    let file = fs::symlink_metadata(path)?;
    let id = FileId { device: file.dev(), inode: file.ino() };
    Ok(file.file_type().is_socket().then_some(id))
}

/// Removes the file at `path`.
///
/// # Errors
///
/// Those of `unlink`.
pub fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Sets who may use the file at `path`; for a socket, who may connect to it.
///
/// # Errors
///
/// Those of `chmod`.
pub fn set_file_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}
