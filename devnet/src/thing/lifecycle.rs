//! The task of a Thing: a loop of boots.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lamplighter_gateway::cast::DATAGRAM_BYTES_MAX;
use lamplighter_gateway::coap::{self, CoapEndpoint, DatagramSocket};
use lamplighter_types::{AlarmChange, PublicKey, Severity};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ThingError;
use super::config::{SelfTest, Socket, ThingConfig};
use super::delivery::Uplink;
use super::machine::{Boot, Machine, Status};
use super::service::{SharedMachine, Signals, ThingService, objects, with_machine};

/// An event that a Thing shall emit; the Thing adds device, number, time and signature.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// A kind of the vocabulary of events, or `x-...`.
    pub kind: String,
    /// Its severity.
    pub severity: Severity,
    /// Its effect on the alarm of its kind.
    pub alarm: AlarmChange,
    /// Free text or JSON, at most `EVENT_DATA_BYTES_MAX` bytes.
    pub data: String,
}

/// A running Thing; dropping it cuts its power.
#[derive(Debug)]
pub struct Thing {
    addr: SocketAddr,
    machine: SharedMachine,
    signals: Arc<Signals>,
    controls: Arc<OwnerControls>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct OwnerControls {
    self_test: AtomicU8,
    power: Notify,
}

impl OwnerControls {
    fn self_test(&self) -> SelfTest {
        match self.self_test.load(Ordering::Relaxed) {
            0 => SelfTest::Passes,
            1 => SelfTest::Fails,
            _ => SelfTest::NeverComesBack,
        }
    }

    fn set_self_test(&self, outcome: SelfTest) {
        let value = match outcome {
            SelfTest::Passes => 0,
            SelfTest::Fails => 1,
            SelfTest::NeverComesBack => 2,
        };
        self.self_test.store(value, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Thing {
    /// Opens the Thing's directory and socket and boots it.
    pub async fn spawn(mut config: ThingConfig) -> Result<Thing, ThingError> {
        let datagrams = config.socket.open().await.map_err(ThingError::Socket)?;
        let addr = datagrams.local_addr().map_err(ThingError::Socket)?;
        let controls = Arc::new(OwnerControls::default());
        controls.set_self_test(config.self_test);
        let signals = Arc::new(Signals::default());
        let (socket, gateway) = (config.socket.clone(), config.gateway);
        let endpoint = config.device.to_string();
        let objects = objects(config.ledger.is_some(), config.takes_casts);
        let (lifetime, coap) = (config.lifetime, config.coap.clone());
        let (boot_time, trial_timeout) = (config.boot_time, config.trial_timeout);
        let open = tokio::task::spawn_blocking(|| Machine::open(config));
        let machine = open.await.map_err(|_| ThingError::Ended)??;
        let machine = Arc::new(std::sync::Mutex::new(Some(machine)));
        let cycle = PowerCycle {
            machine: machine.clone(),
            signals: signals.clone(),
            controls: controls.clone(),
            socket,
            datagrams: Some(datagrams),
            gateway,
            endpoint,
            objects,
            lifetime,
            coap,
            boot_time,
            trial_timeout,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(cycle.run_boots(stop.clone()));
        Ok(Thing {
            addr,
            machine,
            signals,
            controls,
            stop,
            task,
        })
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Makes it emit an event. The event is on its disk when this returns; the result is its
    /// number.
    pub async fn raise(&self, event: NewEvent) -> Result<u64, ThingError> {
        let sequence = with_machine(&self.machine, move |machine| machine.raise(&event)).await?;
        self.signals.outbox.notify_one();
        Ok(sequence)
    }

    /// Makes it ask for another key, with which it signs from then on; returns it.
    pub async fn rotate_key(&self) -> Result<PublicKey, ThingError> {
        let key = with_machine(&self.machine, |machine| machine.rotate_key()).await?;
        self.signals.outbox.notify_one();
        Ok(key)
    }

    /// Its status.
    pub async fn status(&self) -> Result<Status, ThingError> {
        with_machine(&self.machine, |machine| machine.status()).await
    }

    /// The bytes of its active slot.
    pub async fn active_image(&self) -> Result<Vec<u8>, ThingError> {
        with_machine(&self.machine, |machine| machine.active_image()).await
    }

    /// Flips one bit of the next block that it receives.
    pub async fn corrupt_next_block(&self) -> Result<(), ThingError> {
        let flip = |machine: &mut Machine| {
            machine.corrupt_next_block();
            Ok(())
        };
        with_machine(&self.machine, flip).await
    }

    /// Chooses the result of the self-test of new images.
    pub fn set_self_test(&self, outcome: SelfTest) {
        self.controls.set_self_test(outcome);
    }

    /// Turns it off and on again.
    pub fn power_cycle(&self) {
        self.controls.power.notify_one();
    }

    /// True if its task still runs; it ends only when its disk fails.
    pub fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    /// Cuts the power, and waits until socket and directory are free.
    pub async fn kill(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "a Thing ended badly");
        }
        let machine = self.machine.clone();
        let take = move || {
            machine
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
        };
        if let Err(error) = tokio::task::spawn_blocking(take).await {
            tracing::error!(%error, "freeing the directory of a Thing");
        }
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct PowerCycle {
    machine: SharedMachine,
    signals: Arc<Signals>,
    controls: Arc<OwnerControls>,
    socket: Socket,
    datagrams: Option<Arc<dyn DatagramSocket>>,
    gateway: SocketAddr,
    endpoint: String,
    objects: String,
    lifetime: Duration,
    coap: coap::CoapConfig,
    boot_time: Duration,
    trial_timeout: Duration,
}

impl PowerCycle {
    async fn run_boots(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.boot_once(&stop).await {
                let thing = &self.endpoint;
                tracing::error!(
                    thing,
                    error = &error as &dyn std::error::Error,
                    "a Thing died"
                );
                return;
            }
        }
    }

    /// Runs from power-on to the next reboot.
    async fn boot_once(&mut self, stop: &CancellationToken) -> Result<(), ThingError> {
        if stop
            .run_until_cancelled(tokio::time::sleep(self.boot_time))
            .await
            .is_none()
        {
            return Ok(());
        }
        let boot = with_machine(&self.machine, |machine| machine.boot()).await?;
        let outcome = self.controls.self_test();
        if boot == Boot::Trial && outcome == SelfTest::NeverComesBack {
            self.datagrams = None;
            // Only a power cycle or the end of the Thing ends this state.
            let _ = stop
                .run_until_cancelled(self.controls.power.notified())
                .await;
            return Ok(());
        }
        let datagrams = match self.datagrams.take() {
            Some(datagrams) => datagrams,
            None => self.socket.open().await.map_err(ThingError::Socket)?,
        };
        let endpoint = self.serve(datagrams)?;
        let task = self.run(boot, outcome, &endpoint);
        let result = stop.run_until_cancelled(task).await.unwrap_or(Ok(()));
        endpoint.close().await;
        result
    }

    fn serve(&self, datagrams: Arc<dyn DatagramSocket>) -> Result<CoapEndpoint, ThingError> {
        let service = ThingService {
            machine: self.machine.clone(),
            gateway: self.gateway,
            signals: self.signals.clone(),
        };
        CoapEndpoint::start(datagrams, self.coap.clone(), Arc::new(service))
            .map_err(ThingError::Socket)
    }

    async fn run(
        &self,
        boot: Boot,
        outcome: SelfTest,
        endpoint: &CoapEndpoint,
    ) -> Result<(), ThingError> {
        with_machine(&self.machine, move |machine| {
            // The inventory of an image on trial is reported once it is confirmed.
            if boot == Boot::Trial {
                return machine.begin_trial();
            }
            machine.report_inventory()?;
            machine.save()
        })
        .await?;
        let uplink = Uplink {
            handle: endpoint.handle(),
            gateway: self.gateway,
            endpoint: self.endpoint.clone(),
            objects: self.objects.clone(),
            lifetime: self.lifetime,
            machine: self.machine.clone(),
            signals: self.signals.clone(),
            reached: Arc::new(watch::channel(0).0),
        };
        tokio::select! {
            () = uplink.keep_registered() => Ok(()),
            delivered = uplink.deliver() => delivered,
            proven = self.confirm_changes(boot, outcome, &uplink) => proven,
            installed = self.install_on_command() => installed,
            ended = self.receive_casts() => ended,
            () = self.controls.power.notified() => Ok(()),
        }
    }

    /// Tests and confirms a new image, then each new configuration. Returns to reboot.
    async fn confirm_changes(
        &self,
        boot: Boot,
        outcome: SelfTest,
        uplink: &Uplink,
    ) -> Result<(), ThingError> {
        let mut reached = uplink.reached.subscribe();
        if boot == Boot::Trial {
            tokio::time::sleep(self.boot_time).await;
            if outcome == SelfTest::Fails {
                return with_machine(&self.machine, |m| m.revert("the self-test failed")).await;
            }
            let first = reached.wait_for(|count| *count > 0);
            if tokio::time::timeout(self.trial_timeout, first)
                .await
                .is_err()
            {
                return with_machine(&self.machine, |m| m.revert("the gateway was not reached"))
                    .await;
            }
            with_machine(&self.machine, |machine| machine.confirm()).await?;
            self.signals.outbox.notify_one();
        }
        loop {
            let waiting = with_machine(&self.machine, |m| Ok(m.configuration_on_trial())).await?;
            tokio::select! {
                changed = reached.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    with_machine(&self.machine, |machine| machine.confirm_configuration()).await?;
                }
                // A new configuration: its timeout starts.
                () = self.signals.on_trial.notified() => continue,
                () = tokio::time::sleep(self.trial_timeout), if waiting => {
                    let back = |machine: &mut Machine| machine.revert_configuration_on_trial();
                    with_machine(&self.machine, back).await?;
                }
            }
            self.signals.outbox.notify_one();
        }
    }

    /// Receives what is cast, as long as the Thing is in a cast.
    async fn receive_casts(&self) -> Result<(), ThingError> {
        loop {
            let cast = with_machine(&self.machine, |machine| Ok(machine.cast_address())).await?;
            let Some((number, address)) = cast else {
                self.signals.cast.notified().await;
                continue;
            };
            match self.socket.open_cast(address) {
                Ok(socket) => self.receive_cast(number, socket).await?,
                Err(error) => {
                    tracing::warn!(thing = self.endpoint, %error, "no multicast");
                    with_machine(&self.machine, Machine::leave_cast).await?;
                }
            }
        }
    }

    /// Receives one cast until it is another one that the Thing is in, or none.
    async fn receive_cast(
        &self,
        number: u32,
        socket: Arc<dyn DatagramSocket>,
    ) -> Result<(), ThingError> {
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            let datagram = tokio::select! {
                () = self.signals.cast.notified() => None,
                received = socket.receive(&mut buffer) => match received {
                    Ok((count, _)) => Some(buffer[..count].to_vec()),
                    Err(error) => {
                        tracing::debug!(%error, "receiving a datagram");
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                },
            };
            let accept = move |machine: &mut Machine| {
                datagram.map_or(Ok(()), |datagram| machine.accept_cast(&datagram))?;
                Ok(machine.cast_address())
            };
            let cast = with_machine(&self.machine, accept).await?;
            if cast.map(|(cast, _)| cast) != Some(number) {
                self.signals.outbox.notify_one();
                return Ok(());
            }
        }
    }

    /// Writes the new image when an installation is ordered. Returns to boot it.
    async fn install_on_command(&self) -> Result<(), ThingError> {
        loop {
            if with_machine(&self.machine, |machine| Ok(machine.is_installing())).await? {
                let staged = with_machine(&self.machine, |machine| machine.install()).await?;
                self.signals.outbox.notify_one();
                if staged {
                    // Time for the last messages of this boot; the others follow after it.
                    tokio::time::sleep(self.boot_time).await;
                    return Ok(());
                }
            }
            self.signals.install.notified().await;
        }
    }
}
