// The arithmetic of --memory. The constants are measured and stand at the top; docs/fetch.md has the
// measurements. All functions are pure, so that the parent can refuse a release with the numbers that the
// worker would use.

#include "fetch/job/memory_budget.h"

#include <algorithm>
#include <bit>

#include "base/bytes.h"
#include "base/error.h"
#include "base/merkle.h"
#include "base/text.h"
#include "fetch/fetch.h"

namespace sluice::fetch {
namespace {

constexpr std::uint64_t kKiB = 1 << 10;
constexpr std::uint64_t kMiB = 1 << 20;

// Measured (docs/fetch.md).
constexpr std::uint64_t kProcessesBytes = 40 * kMiB;  // both processes; pages of libraries count in each
constexpr std::uint64_t kSessionBytes = 8 * kMiB;     // a session without a torrent, and its threads' stacks
constexpr std::uint64_t kRestBytesMin = 8 * kMiB;     // the least that a transfer needs for its shares

// What the worker holds of metadata: kReadings copies of the hashes, and state of each piece and file.
constexpr std::uint64_t kReadings = 3;
constexpr std::uint64_t kPieceBytes = 12;
constexpr std::uint64_t kFileBytes = 1 * kKiB;

// What reading metadata takes at its peak: the text, the digests read from it, and for each token of
// bdecode() its place in the growing list and its share of names.
constexpr std::uint64_t kReaderBytes = 32 * kMiB;
constexpr std::uint64_t kReaderTextCopies = 3;
constexpr std::uint64_t kReaderTokenBytes = 120;

/// The memory for a torrent's metadata in the worker. At the peak it holds our layout, the text and
/// libtorrent's torrent_info; later our layout, torrent_info and the state that both keep of each piece.
std::uint64_t metadata_bytes(const format::ReleaseLayout& layout) {
  std::uint64_t hash_bytes = layout.v1_pieces.size() * base::Sha1::kBytes;
  std::uint64_t pieces = 0;
  for (const format::ReleaseFile& file : layout.files) {
    pieces += base::divide_up(file.length_bytes, layout.piece_bytes);
    hash_bytes += file.piece_layer.size() * base::Sha256::kBytes;
  }
  std::uint64_t total = kReadings * hash_bytes + kPieceBytes * pieces + kFileBytes * layout.files.size();
  if (!layout.infohash_v1) total += tree_bytes(layout);  // a hybrid torrent can be used as v1
  return total;
}

std::uint64_t rest_bytes(std::uint64_t memory_bytes, std::uint64_t taken_bytes) {
  const std::uint64_t total = worker_memory_bytes(memory_bytes);
  return total - std::min(total, kSessionBytes + taken_bytes);
}

// The shares add up to less than the rest, because pieces from mirrors exist twice for a moment: in a
// mirror's run and in libtorrent's queue.
MemoryShares share(std::uint64_t rest_bytes, std::uint64_t piece_count) {
  const std::uint64_t peer_bytes = 64 * kKiB + piece_count / 8;  // one bit per piece that the peer has
  MemoryShares shares;
  shares.store_bytes = std::clamp(rest_bytes / 8, 2 * kMiB, 128 * kMiB);
  shares.mirror_bytes = rest_bytes / 5;
  shares.tree_bytes = rest_bytes / 5;
  shares.send_bytes = std::clamp(rest_bytes / 128, 128 * kKiB, 4 * kMiB);
  shares.receive_bytes = std::clamp(rest_bytes / 64, 128 * kKiB, 2 * kMiB);
  shares.peers_max = static_cast<unsigned>(std::clamp<std::uint64_t>(rest_bytes / 8 / peer_bytes, 20, 200));
  return shares;
}

}  // namespace

std::uint64_t tree_bytes(const format::ReleaseLayout& layout) {
  std::uint64_t total = 0;
  for (const format::ReleaseFile& file : layout.files)
    if (file.root)
      total += 2 * base::Sha256::kBytes *
               std::bit_ceil(base::divide_up(file.length_bytes, base::kMerkleBlockBytes));
  return total;
}

std::uint64_t worker_memory_bytes(std::uint64_t memory_bytes) {
  return memory_bytes - std::min(memory_bytes, kProcessesBytes);
}

MemoryShares share_memory(std::uint64_t memory_bytes) { return share(rest_bytes(memory_bytes, 0), 0); }

MemoryShares share_memory(std::uint64_t memory_bytes, const format::ReleaseLayout& layout) {
  const std::uint64_t taken_bytes = metadata_bytes(layout);
  const std::uint64_t rest = rest_bytes(memory_bytes, taken_bytes);
  if (rest < kRestBytesMin)
    throw base::Error(
        base::ErrorKind::usage,
        layout.name + ": its metadata take " + base::to_human_bytes(taken_bytes) + " of memory, so that " +
            base::to_human_bytes(kProcessesBytes + kSessionBytes + taken_bytes + kRestBytesMin) +
            " are needed in all (--memory), not " + base::to_human_bytes(memory_bytes));
  return share(rest, layout.v1_pieces.size());
}

TorrentLimits torrent_limits(std::uint64_t memory_bytes) {
  const std::uint64_t free_bytes = memory_bytes - std::min(memory_bytes, kReaderBytes);
  return {
      .bytes_max = std::min(free_bytes / kReaderTextCopies, kTorrentBytesMax),
      .tokens_max = static_cast<int>(std::min<std::uint64_t>(free_bytes / kReaderTokenBytes, kTokensMax))};
}

void check_metadata_memory(std::uint64_t memory_bytes, std::string_view content, std::string_view subject) {
  const TorrentLimits limits = torrent_limits(memory_bytes);
  const std::uint64_t tokens = count_tokens(content);
  // What exceeds the limits of the format is malformed whatever the memory, and the reader says so.
  const bool too_large = content.size() > limits.bytes_max && content.size() <= kTorrentBytesMax;
  const bool too_many = tokens > static_cast<std::uint64_t>(limits.tokens_max) && tokens <= kTokensMax;
  if (!too_large && !too_many) return;
  const std::uint64_t reader_bytes =
      kReaderBytes + std::max(content.size() * kReaderTextCopies, tokens * kReaderTokenBytes);
  // An upper bound of what share_memory() will ask for: every byte could belong to a hash, and a file takes
  // at least nine tokens.
  const std::uint64_t worker_bytes =
      kProcessesBytes + kSessionBytes + kRestBytesMin + kReadings * content.size() +
      content.size() / base::Sha1::kBytes * kPieceBytes + tokens / 9 * kFileBytes;
  constexpr std::uint64_t kStepBytes = 16 * kMiB;
  const std::uint64_t enough_bytes = base::align_up(std::max(reader_bytes, worker_bytes), kStepBytes);
  throw base::Error(base::ErrorKind::usage,
                    std::string(subject) + ": metadata of " + base::to_human_bytes(content.size()) + " in " +
                        std::to_string(tokens) + " values is too large for --memory " +
                        base::to_human_bytes(memory_bytes) + "; --memory " +
                        std::to_string(enough_bytes / kMiB) + "MiB is enough");
}

}  // namespace sluice::fetch
