//! POSIX ACLs as extended attributes hold them (`linux/posix_acl_xattr.h`): a version, then entries of 8 bytes.

use std::fs::File;
use std::io;

use rustix::fs::getxattr;
use rustix::io::Errno;

use super::{Trust, magic_link};

/// The attribute that holds the ACL of a file or directory.
pub const ACCESS: &str = "system.posix_acl_access";

/// The attribute of a directory that holds the ACL of what is made in it.
pub const DEFAULT: &str = "system.posix_acl_default";

const VERSION: u32 = 2;
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

const READ: u16 = 4;
const WRITE: u16 = 2;

/// In bytes: the kernel's limit for the value of an attribute.
pub const LARGEST_VALUE: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    rights: u16,
    id: u32,
}

/// Reads the ACL of an open file; `None` where it has none or its file system knows none.
pub fn of(file: &File) -> io::Result<Option<Acl>> {
    let mut value = vec![0; LARGEST_VALUE];
    match getxattr(magic_link(file), ACCESS, &mut value[..]) {
        Ok(length) => Acl::parse(&value[..length]).map(Some),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Acl {
    /// # Errors
    /// The value has another version or no whole number of entries.
    pub fn parse(value: &[u8]) -> io::Result<Self> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "an ACL of a form that certd does not know");
        let (version, entries) = value.split_first_chunk().ok_or_else(unknown)?;
        if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
            return Err(unknown());
        }
        let entry = |bytes: &[u8]| Entry {
            tag: u16::from_le_bytes([bytes[0], bytes[1]]),
            rights: u16::from_le_bytes([bytes[2], bytes[3]]),
            id: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        };
        Ok(Self(entries.chunks_exact(8).map(entry).collect()))
    }

    pub fn to_value(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for Entry { tag, rights, id } in &self.0 {
            value.extend(tag.to_le_bytes());
            value.extend(rights.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    /// Returns the ACL for a file with a private key: named users and groups read at most, everybody else nothing.
    pub fn for_a_key(mut self) -> Self {
        for entry in &mut self.0 {
            match entry.tag {
                MASK => entry.rights &= READ,
                OTHER => entry.rights = 0,
                _ => {}
            }
        }
        self
    }

    /// Returns whether a named user or group may write that is not trusted.
    pub(super) fn lets_others_write(&self, trust: &Trust) -> bool {
        let mask = self.0.iter().find(|entry| entry.tag == MASK).map_or(u16::MAX, |mask| mask.rights);
        self.0.iter().any(|entry| {
            let is_other = match entry.tag {
                USER => !trust.has_user(entry.id),
                GROUP => !trust.has_group(entry.id),
                _ => false,
            };
            is_other && entry.rights & mask & WRITE != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `setfacl -m u:1234:rw` leaves it on a file of mode 0664.
    const VALUE: [u8; 44] = [
        2, 0, 0, 0, // version
        1, 0, 6, 0, 255, 255, 255, 255, // its owner
        2, 0, 6, 0, 210, 4, 0, 0, // user 1234
        4, 0, 4, 0, 255, 255, 255, 255, // its group
        16, 0, 6, 0, 255, 255, 255, 255, // mask
        32, 0, 4, 0, 255, 255, 255, 255, // others
    ];

    #[test]
    fn an_acl_for_a_key_lets_named_users_read_and_others_do_nothing() {
        let acl = Acl::parse(&VALUE).unwrap();
        assert_eq!(acl.to_value(), VALUE);
        assert!(acl.lets_others_write(&Trust::own()));
        let narrowed = acl.for_a_key();
        assert!(!narrowed.lets_others_write(&Trust::own()));
        let mut expected = VALUE;
        (expected[30], expected[38]) = (4, 0);
        assert_eq!(narrowed.to_value(), expected);
    }

    #[test]
    fn an_acl_of_another_version_or_cut_short_is_refused() {
        for wrong in [&VALUE[..3], &VALUE[..7], &[1, 0, 0, 0]] {
            assert_eq!(Acl::parse(wrong).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(Acl::parse(&VALUE[..4]).unwrap(), Acl(Vec::new()));
    }
}
