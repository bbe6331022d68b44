//! The gateway: speaks for Things in the field. South: CoAP and LwM2M.

pub mod coap;
pub mod lwm2m;
pub mod south;
