//! Where the blocks of an audit come from.

use lamplighter_client::Client;
use lamplighter_types::Hash;
use lamplighter_types::wire::ArchivedBlock;

use crate::archive::ArchiveFolder;
use crate::failure::Failure;
use crate::session::asking;

/// Blocks in the order of the chain, and how far it goes.
#[derive(Debug, Default)]
pub struct Blocks {
    pub blocks: Vec<ArchivedBlock>,
    /// Height of the last certified block that the source says it has.
    pub certified: u64,
}

/// The blocks of nodes, or of an archive.
pub enum Source {
    Nodes(Box<Client>),
    Folder(ArchiveFolder),
    /// Blocks of nodes that are kept in an archive, whose last block is named.
    Kept(Box<Client>, ArchiveFolder, u64),
}

impl Source {
    /// Keeps the blocks in a folder, which an audit has seen up to a height.
    ///
    /// # Errors
    /// The blocks come from an archive, or some that the audit has seen are not in the folder:
    /// nobody would check them.
    pub fn kept(self, folder: ArchiveFolder, seen: u64) -> Result<Self, Failure> {
        let Self::Nodes(client) = self else {
            return Err(Failure::plain("an archive is not kept once more"));
        };
        let last = folder.last_added()?;
        if last < seen {
            return Err(Failure::plain(format!(
                "the audit has compared the blocks up to {seen}, and the archive has those up to \
                 {last}: give an empty --folder, or the one with which the archive was made"
            )));
        }
        Ok(Self::Kept(client, folder, last))
    }

    /// Some blocks from a height on; none at the end.
    pub async fn blocks(&mut self, from: u64) -> Result<Blocks, Failure> {
        match self {
            Self::Nodes(client) => ask(client, from).await,
            Self::Folder(folder) => {
                let certified = folder.end().map_or(0, |end| end.height);
                let folder = folder.clone();
                let blocks = off_thread(move || folder.blocks(from)).await?;
                Ok(Blocks { blocks, certified })
            }
            // Added before, and perhaps not compared: an audit may end at any moment.
            Self::Kept(_, folder, last) if from <= *last => {
                let (reader, certified) = (folder.clone(), *last);
                let blocks = off_thread(move || reader.added_blocks(from)).await?;
                Ok(Blocks { blocks, certified })
            }
            Self::Kept(client, folder, last) => {
                let answer = ask(client, from).await?;
                folder.add(&answer.blocks)?;
                *last = answer.blocks.last().map_or(*last, |b| b.header.height);
                Ok(answer)
            }
        }
    }

    /// Sets the end of the archive that is kept, all of which was compared.
    pub fn set_end(&mut self, height: u64, header: Hash, time_ms: u64) -> Result<(), Failure> {
        match self {
            Self::Kept(_, folder, _) => folder.set_end(height, header, time_ms),
            Self::Nodes(_) | Self::Folder(_) => Ok(()),
        }
    }

    /// Takes out of the archive that is kept what the audit did not accept.
    pub fn refuse_above(&mut self, height: u64) -> Result<(), Failure> {
        match self {
            Self::Kept(_, folder, _) => folder.refuse_above(height),
            Self::Nodes(_) | Self::Folder(_) => Ok(()),
        }
    }
}

async fn ask(client: &Client, from: u64) -> Result<Blocks, Failure> {
    let answer = client.archive_page(from).await.map_err(asking)?;
    Ok(Blocks {
        blocks: answer.blocks,
        certified: answer.certified,
    })
}

async fn off_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(read)
        .await
        .map_err(Failure::during("reading the archive"))?
}
