//! HTTPS: the TLS side of the HTTP listener, and the certificate files that an operator brought
//! along.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_system::error_chain;
use lamplighter_tls::{Identity, SetupError, WebCertificates, web_server};
use lamplighter_types::wire::Problem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::deadline::WriteDeadline;
use crate::http::code;

/// Interval at which the certificate files are read: a new certificate serves within it.
const RELOAD_EVERY: Duration = Duration::from_secs(5);
/// Largest file of a certificate chain or a key.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The first byte of a TLS handshake record (RFC 8446, section 5.1). No HTTP request begins so.
const HANDSHAKE: u8 = 0x16;

/// The certificates that an HTTP listener shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpTls {
    /// The certificate of the node's ledger key.
    Ledger,
    /// Files (PEM) for browsers and proxies, beside that of the ledger key for clients that pin it.
    Files { certificate: PathBuf, key: PathBuf },
    /// Plain HTTP.
    Off,
}

/// Why certificate files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFileError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("the certificate or key is not usable")]
    Contents(#[source] SetupError),
}

/// Makes TLS connections of TCP connections.
#[derive(Clone)]
pub(crate) struct HttpsAcceptor {
    tls: TlsAcceptor,
    handshake_time: Duration,
}

impl HttpsAcceptor {
    /// `None` where the listener is to be plain. Files are read now, and again at intervals.
    pub async fn start(
        tls: &HttpTls,
        identity: &Identity,
        handshake_time: Duration,
        stop: &CancellationToken,
    ) -> Result<Option<Self>, CertificateFileError> {
        let certificates =
            WebCertificates::new(identity).map_err(CertificateFileError::Contents)?;
        let certificates = Arc::new(certificates);
        match tls {
            HttpTls::Off => return Ok(None),
            HttpTls::Ledger => {}
            HttpTls::Files { certificate, key } => {
                let files = CertificateFiles {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    certificates: Arc::clone(&certificates),
                };
                let first = files.read().await?;
                files.install(&first)?;
                let stop = stop.clone();
                tokio::spawn(async move {
                    stop.run_until_cancelled(files.follow(first)).await;
                });
            }
        }
        let server = web_server(certificates).map_err(CertificateFileError::Contents)?;
        Ok(Some(Self {
            tls: TlsAcceptor::from(Arc::new(server)),
            handshake_time,
        }))
    }

    /// The TLS connection; `None` if the client made none in time. A client that speaks plain HTTP
    /// gets an answer that names the mistake.
    pub async fn accept(
        &self,
        mut stream: TcpStream,
        write_time: Duration,
    ) -> Option<TlsStream<WriteDeadline<TcpStream>>> {
        let deadline = Instant::now() + self.handshake_time;
        let handshake = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
                answer_plain(&mut stream).await?;
                return Ok(None);
            }
            handshake(&self.tls, stream, write_time).await.map(Some)
        };
        match timeout_at(deadline, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("a client made no TLS handshake in time");
                None
            }
        }
    }
}

/// Makes the TLS connection, whose client has to take what it is sent. The deadline is below TLS,
/// which takes bytes that the other end has not.
async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &TlsAcceptor,
    stream: S,
    write_time: Duration,
) -> io::Result<TlsStream<WriteDeadline<S>>> {
    tls.accept(WriteDeadline::new(stream, write_time)).await
}

/// Answers a request that came without TLS.
async fn answer_plain(stream: &mut TcpStream) -> io::Result<()> {
    tracing::info!("plain HTTP was spoken to the HTTPS port");
    // What is not read would reset the connection, and the answer be lost.
    let mut head = Vec::with_capacity(4096);
    stream.read_buf(&mut head).await?;
    let detail = "this port speaks HTTPS: use https://, with the node's certificate";
    let problem = Problem::new(400, "Bad Request", code::NEEDS_TLS, detail);
    let body = serde_json::to_string(&problem).expect("our types have JSON forms");
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// A certificate chain and its key in files.
struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    certificates: Arc<WebCertificates>,
}

/// The contents of the certificate and the key file.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
}

impl CertificateFiles {
    async fn read(&self) -> Result<Contents, CertificateFileError> {
        Ok(Contents {
            certificate: read_bounded(&self.certificate).await?,
            key: read_bounded(&self.key).await?.into(),
        })
    }

    fn install(&self, contents: &Contents) -> Result<(), CertificateFileError> {
        self.certificates
            .replace(&contents.certificate, &contents.key)
            .map_err(CertificateFileError::Contents)
    }

    /// Installs the files whenever they have changed. As long as they are missing or broken, e.g.
    /// because only one of them is new yet, the last good ones serve.
    async fn follow(self, mut installed: Contents) {
        let mut last_error: Option<String> = None;
        loop {
            tokio::time::sleep(RELOAD_EVERY).await;
            let changed = match self.read().await {
                Ok(contents) if contents == installed => Ok(None),
                Ok(contents) => self.install(&contents).map(|()| Some(contents)),
                Err(error) => Err(error),
            };
            let error = match changed {
                Ok(None) => None,
                Ok(Some(contents)) => {
                    tracing::info!(file = %self.certificate.display(), "a new certificate serves");
                    installed = contents;
                    None
                }
                Err(error) => Some(error_chain(&error)),
            };
            if let Some(error) = error.as_ref().filter(|_| error != last_error) {
                let file = self.certificate.display();
                tracing::warn!(%file, error, "the old certificate goes on serving");
            }
            last_error = error;
        }
    }
}

async fn read_bounded(path: &Path) -> Result<Vec<u8>, CertificateFileError> {
    let failed = |source| CertificateFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    let mut file = file.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(CertificateFileError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
