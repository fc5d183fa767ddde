//! The keyring, whose keys can be changed in a running cluster without losing a message.
//!
//! Add the new key on every member, then use it on every member, then remove the old key on every member. Leave some
//! seconds between the steps: a message that is on its way under a removed key is lost.

use memberlist::proto::SecretKey;

use super::{
    config::KeyError,
    instance::{Core, List},
};

/// Accepts another key from now on. Adding a known key changes nothing.
pub(super) fn add(core: &Core, key: [u8; 32]) -> Result<(), KeyError> {
    with_keyring(core, |keys| {
        if !keys.contains(&key) {
            keys.push(key);
        }
        Ok(())
    })
}

/// Encrypts with a key added before.
pub(super) fn prefer(core: &Core, key: [u8; 32]) -> Result<(), KeyError> {
    with_keyring(core, |keys| {
        let at = keys.iter().position(|k| *k == key).ok_or(KeyError::Unknown)?;
        let key = keys.remove(at);
        keys.insert(0, key);
        Ok(())
    })
}

/// Refuses a key from now on. Removing an unknown key changes nothing.
pub(super) fn remove(core: &Core, key: [u8; 32]) -> Result<(), KeyError> {
    with_keyring(core, |keys| {
        if keys.first() == Some(&key) {
            return Err(KeyError::Primary);
        }
        keys.retain(|k| *k != key);
        Ok(())
    })
}

/// Changes the list of keys and brings the keyring of the live instance in line with it, under one lock.
fn with_keyring(core: &Core, change: impl FnOnce(&mut Vec<[u8; 32]>) -> Result<(), KeyError>) -> Result<(), KeyError> {
    let mut keys = core.wire.keys.lock();
    if keys.is_empty() {
        return Err(KeyError::Plaintext);
    }
    change(&mut keys)?;
    if let Some(list) = core.live() {
        align(&list, &keys);
    }
    Ok(())
}

/// Brings memberlist's keyring in line with `keys` by comparing the two. Mirroring each call would not do, because the
/// keyring keeps duplicates and drops keys on use.
fn align(list: &List, keys: &[[u8; 32]]) {
    let Some(ring) = list.keyring() else { return };
    let held: Vec<SecretKey> = ring.keys().collect();
    for key in keys.iter().map(|k| SecretKey::Aes256(*k)).filter(|k| !held.contains(k)) {
        ring.insert(key);
    }
    if let Some(primary) = keys.first()
        && let Err(e) = ring.use_key(primary)
    {
        tracing::error!(error = %e, "the keyring did not accept the new primary key");
    }
    for key in held.iter().filter(|k| !keys.iter().any(|own| own[..] == k.as_ref()[..])) {
        if let Err(e) = ring.remove(key) {
            tracing::error!(error = %e, "the keyring did not remove a key");
        }
    }
}
