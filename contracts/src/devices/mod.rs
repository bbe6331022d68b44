//! Devices.

pub mod iotregistry;
