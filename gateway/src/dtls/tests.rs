//! Tests of the sessions: with the library's client, with clients of others, and with attackers.

mod attacks;
mod client;
mod interop;
mod table;
