#include "base/multi_digest.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/invariant.h"
#include "base/merkle.h"
#include "base/parallel.h"

namespace sluice::base {
namespace {

constexpr std::size_t kBufferBytesMax = std::size_t{4} << 20;
constexpr std::size_t kBufferCount = 2;  // one is hashed while the next is read

/// SHA-1 pieces over a stream in which some bytes may be unknown.
class PieceHasher {
 public:
  explicit PieceHasher(std::uint64_t piece_bytes) : piece_bytes_(piece_bytes) {}

  [[nodiscard]] std::uint64_t position_bytes() const { return position_bytes_; }

  void update(Bytes bytes) {
    position_bytes_ += bytes.size();
    while (!bytes.empty()) {
      const auto take =
          static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), piece_bytes_ - filled_bytes_));
      hasher_.update(bytes.first(take));
      bytes = bytes.subspan(take);
      fill(take);
    }
  }

  /// Goes on over bytes that could not be read: their pieces have no hash.
  void skip(std::uint64_t length_bytes) {
    position_bytes_ += length_bytes;
    while (length_bytes > 0) {
      const auto take = std::min(length_bytes, piece_bytes_ - filled_bytes_);
      known_ = false;
      length_bytes -= take;
      fill(take);
    }
  }

  std::vector<std::optional<Sha1>> final() {
    if (filled_bytes_ > 0) finish_piece();
    return std::exchange(pieces_, {});
  }

 private:
  void fill(std::uint64_t count) {
    filled_bytes_ += count;
    if (filled_bytes_ == piece_bytes_) finish_piece();
  }

  void finish_piece() {
    const Sha1 digest = hasher_.final();
    pieces_.push_back(known_ ? std::optional(digest) : std::nullopt);
    known_ = true;
    filled_bytes_ = 0;
  }

  std::uint64_t piece_bytes_;
  std::uint64_t position_bytes_ = 0;  // in the stream
  std::uint64_t filled_bytes_ = 0;
  bool known_ = true;
  Hasher<Sha1> hasher_;
  std::vector<std::optional<Sha1>> pieces_;
};

struct Stamp {
  std::int64_t size = 0;
  std::int64_t seconds = 0;
  std::int64_t nanoseconds = 0;
  bool operator==(const Stamp&) const = default;
};

Stamp stamp_of(const File& file) {
  struct stat status {};
  if (fstat(file.descriptor(), &status) != 0) throw_errno(file.path(), "stat", errno);
  return {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

class Engine {
 public:
  Engine(const DigestWants& wants, const DigestOptions& options, Progress& progress,
         const std::stop_token& stop)
      : wants_(wants),
        options_(options),
        progress_(progress),
        stop_(stop),
        pool_(options.thread_count),
        pieces_(wants.v1_piece_bytes) {
    // Whole leaves, so that a leaf never spans two buffers.
    const std::uint64_t share = options.memory_bytes / kBufferCount / kMerkleBlockBytes * kMerkleBlockBytes;
    const auto bytes = std::clamp<std::uint64_t>(share, kMerkleBlockBytes, kBufferBytesMax);
    for (auto& buffer : buffers_) buffer.resize(static_cast<std::size_t>(bytes));
  }

  StreamDigests run(std::span<const DigestInput> inputs) {
    StreamDigests result;
    result.files.reserve(inputs.size());
    for (const DigestInput& input : inputs)
      result.files.push_back(input.path.empty() ? pad(input.length_bytes) : one_file(input));
    if (wants_.v1_piece_bytes > 0) result.v1_pieces = pieces_.final();
    return result;
  }

 private:
  FileDigests pad(std::uint64_t length_bytes) {
    if (wants_.v1_piece_bytes > 0) {
      std::ranges::fill(buffers_[0], std::byte{0});
      for (std::uint64_t done = 0; done < length_bytes;) {
        const auto take = std::min<std::uint64_t>(buffers_[0].size(), length_bytes - done);
        pieces_.update(Bytes(buffers_[0]).first(static_cast<std::size_t>(take)));
        done += take;
      }
    }
    FileDigests digests;
    digests.found_bytes = length_bytes;
    return digests;
  }

  FileDigests one_file(const DigestInput& input) {
    FileDigests digests;
    const std::uint64_t end_bytes = pieces_.position_bytes() + input.length_bytes;
    try {
      if (input.skip) {
        digests.state = ReadState::missing;
      } else {
        read_file_into(input, digests);
      }
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted) throw;
      std::error_code ignored;
      const auto status = std::filesystem::symlink_status(input.path, ignored);
      digests = FileDigests{};
      digests.state =
          status.type() == std::filesystem::file_type::not_found ? ReadState::missing : ReadState::unreadable;
      digests.problem = error.what();
    }
    // After a failed read the pieces may or may not have got the last buffer: their own position counts.
    if (wants_.v1_piece_bytes > 0) pieces_.skip(end_bytes - pieces_.position_bytes());
    return digests;
  }

  void read_file_into(const DigestInput& input, FileDigests& digests) {
    const File file = File::open_read(input.path);
    const Stamp before = stamp_of(file);
    digests.found_bytes = static_cast<std::uint64_t>(before.size);
    const std::uint64_t length = std::min(digests.found_bytes, input.length_bytes);

    md5_ = {};
    sha256_ = {};
    leaves_.clear();
    layer_.clear();
    const bool layered = wants_.blocks_per_node > 1 &&
                         divide_up(input.length_bytes, kMerkleBlockBytes) > wants_.blocks_per_node;
    std::uint64_t read_bytes = 0;
    std::size_t filled = fill(file, 0, length, buffers_[0]);
    for (std::uint64_t offset = 0; offset < length;) {
      if (stop_.stop_requested()) throw Error(ErrorKind::interrupted, "interrupted");
      const Bytes bytes = Bytes(buffers_[0]).first(filled);
      if (bytes.empty()) break;  // the file was cut while it was read; the stamp shows it
      hash_while_reading(file, offset, length, bytes);
      if (layered) collapse_leaves(wants_.blocks_per_node);
      read_bytes += bytes.size();
      if (options_.drop_cache) file.drop_cache(offset, bytes.size());
      progress_.advance(bytes.size());
      offset += bytes.size();
      std::swap(buffers_[0], buffers_[1]);
      filled = next_filled_;
    }
    if (wants_.md5) digests.md5 = md5_.final();
    if (wants_.sha256) digests.sha256 = sha256_.final();
    if (layered) collapse_leaves(1);
    digests.leaves = std::exchange(leaves_, {});
    digests.layer = std::exchange(layer_, {});
    if (stamp_of(file) != before || read_bytes != length) {
      digests.state = ReadState::changed;
    } else if (digests.found_bytes != input.length_bytes) {
      digests.state = ReadState::wrong_size;
    }
  }

  static std::size_t fill(const File& file, std::uint64_t offset, std::uint64_t end,
                          std::vector<std::byte>& buffer) {
    const auto want = std::min<std::uint64_t>(buffer.size(), end - offset);
    return file.read_at(offset, MutableBytes(buffer).first(static_cast<std::size_t>(want)));
  }

  /// Makes nodes of all leaves but those that are fewer than `leaves_min`.
  void collapse_leaves(std::size_t leaves_min) {
    std::span<const Sha256> rest = leaves_;
    while (!rest.empty() && rest.size() >= leaves_min) {
      const auto count = std::min<std::uint64_t>(rest.size(), wants_.blocks_per_node);
      layer_.push_back(merkle_root(rest.first(count), 0, wants_.blocks_per_node));
      rest = rest.subspan(count);
    }
    leaves_.erase(leaves_.begin(), leaves_.end() - static_cast<std::ptrdiff_t>(rest.size()));
  }

  // The serial chains (MD5, SHA-256, SHA-1 pieces), the next read and the leaves are tasks side by side;
  // the longest chains come first.
  void hash_while_reading(const File& file, std::uint64_t offset, std::uint64_t length, Bytes bytes) {
    const std::size_t blocks = wants_.leaves ? divide_up(bytes.size(), kMerkleBlockBytes) : 0;
    const std::size_t leaf_tasks = std::min<std::size_t>(blocks, pool_.thread_count() * 4);
    const std::size_t leaves_before = leaves_.size();
    leaves_.resize(leaves_before + blocks);
    constexpr std::size_t kChains = 4;
    pool_.run(kChains + leaf_tasks, [&](std::size_t task, unsigned) {
      switch (task) {
        case 0: next_filled_ = fill(file, offset + bytes.size(), length, buffers_[1]); return;
        case 1:
          if (wants_.md5) md5_.update(bytes);
          return;
        case 2:
          if (wants_.sha256) sha256_.update(bytes);
          return;
        case 3:
          if (wants_.v1_piece_bytes > 0) pieces_.update(bytes);
          return;
        default: break;
      }
      const std::size_t first = (task - kChains) * blocks / leaf_tasks;
      const std::size_t last = (task - kChains + 1) * blocks / leaf_tasks;
      std::vector<Bytes> messages;
      for (std::size_t block = first; block < last; ++block) {
        const std::size_t start = block * kMerkleBlockBytes;
        messages.push_back(bytes.subspan(start, std::min(kMerkleBlockBytes, bytes.size() - start)));
      }
      hash_each(messages, std::span(leaves_).subspan(leaves_before + first, last - first));
    });
  }

  const DigestWants& wants_;
  const DigestOptions& options_;
  Progress& progress_;
  const std::stop_token& stop_;
  WorkerPool pool_;
  PieceHasher pieces_;
  std::vector<std::byte> buffers_[kBufferCount];
  std::size_t next_filled_ = 0;
  Hasher<Md5> md5_;
  Hasher<Sha256> sha256_;
  std::vector<Sha256> leaves_;  // of the current file, as far as they are not yet in layer_
  std::vector<Sha256> layer_;
};

}  // namespace

StreamDigests compute_digests(std::span<const DigestInput> inputs, const DigestWants& wants,
                              const DigestOptions& options, Progress& progress, const std::stop_token& stop) {
  return Engine(wants, options, progress, stop).run(inputs);
}

}  // namespace sluice::base
