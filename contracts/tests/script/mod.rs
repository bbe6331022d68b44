//! Runs a script: people send actions, one block each; the output has the receipts, the
//! notifications, the device events and the state records that changed. Lines of a script, each
//! copied to the output:
//!
//! ```text
//! # comment
//! ada: {"users": {"disable": {"account": "olga"}}}    ada sends it (JSON as in a transaction)
//!     "a line that begins with a space continues the line before"
//! gw-1 [lamp-1 lamp-2]: {...}     reports and events of these devices are signed by their keys
//! ada as thief: {...}             ada's name, signed with the key `thief`
//! @key ada ada-2                  from now on ada signs with the key `ada-2`
//! @sequence 7                     sequence number of the next transaction
//! @expires -1                     the next transaction expires so many ms after its block
//! @again                          sends the last transaction once more
//! @time 60000                     the next block is so many ms later (1,000 otherwise)
//! @blocks 3                       blocks without transactions
//! @quiet                          changed records are no longer shown; @loud shows them again
//! @counts                         notifications and changed records are only counted
//! @times 29                       the next transaction is sent so many times; `{k}` in it is the
//!                                 number of the time
//! @effective lamp-1               the configuration that a device should have
//! @query owner 02ab..             an IOTRegistry query
//! ```
//!
//! Every name is a key too: that of `lamp-1` is made from its name. Strings of an action that
//! begin with `$` are filled in: `$key:NAME` a public key, `$hash:TEXT` the digest of a text,
//! `$now+5000` a number (block time and so many ms), `$rotation:NAME` the proof by which the key
//! NAME takes the place of the sender's or is added to it, `$proof:KEY@ACCOUNT` and
//! `$node_proof:KEY@ACCOUNT` other proofs of possession (added to an action that introduces
//! `$key:KEY` for an account, where it is left out), `$device_proof:KEY@DEVICE` that of a device
//! (added where the key has the device's name), `$change:PROPOSAL`, `$plan:ROLLOUT` and
//! `$manifest:RELEASE` the digests that approvers name. `{"$release": {manifest}, "$by": "acme"}`
//! is a manifest with the signature of the key `acme`. `{"$repeat": 1000, "$item": ..}` in a list
//! stands for so many items, and `{n}` in them is the number of each, from 1; `$number:3*7+1`
//! is a number.
//!
//! `{"$policies": {"newcomer_wait_ms": 0}}` stands for the default policies with some numbers
//! changed.
//!
//! In the output known keys and digests have their names, other long hexadecimal texts are cut;
//! replay windows are left out.
//!
//! The ledger begins with: `ada`, `ben`, `cyd`, `dan` (administrators), `olga` (operator), `amir`,
//! `anna` (approvers), `sam` (security), `acme` (vendor), all of the whole city and of the
//! organization
//! `city`; validators `node-1` to `node-4`; the default policies.

mod fill;
mod parse;
mod show;
mod world;

pub use parse::parse;
pub use world::World;

/// Runs a script; returns the output and every change of the state, block by block.
pub fn run(text: &str) -> (String, Vec<lamplighter_state::Changes>) {
    let mut world = World::new();
    let mut output = String::new();
    for (source, line) in parse(text) {
        output.push_str(&source);
        output.push('\n');
        output.push_str(&world.step(line));
    }
    (output, world.into_changes())
}
