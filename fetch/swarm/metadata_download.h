#pragma once
// The exchange of metadata (BEP 9) as a state machine: messages and time go in, actions come out. It knows no
// sockets and no libtorrent, so that tests and a fuzzer can play any sequence of events;
// fetch/swarm/metadata_exchange.h connects it with libtorrent.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/digest.h"
#include "base/stopwatch.h"
#include "fetch/swarm/metadata_message.h"

namespace sluice::fetch {

/// The info dictionary as one peer sends it, in blocks that may come in any order.
class MetadataBlocks final {
 public:
  static constexpr std::uint64_t kBlockBytes = 16 << 10;  ///< BEP 9

  enum class Put : std::uint8_t {
    taken,
    repeated,  ///< the block is there already; nothing has changed
    refused,   ///< there is no such block, or it has another length
  };

  explicit MetadataBlocks(std::uint64_t bytes, std::uint64_t block_bytes = kBlockBytes);

  Put put(std::uint64_t index, std::string_view block);
  [[nodiscard]] bool complete() const { return received_bytes_ == bytes_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint64_t received_bytes() const { return received_bytes_; }
  [[nodiscard]] std::uint64_t received_count() const { return received_count_; }
  [[nodiscard]] std::uint64_t count() const { return blocks_.size(); }
  [[nodiscard]] const std::vector<std::string>& blocks() const& { return blocks_; }
  [[nodiscard]] std::vector<std::string> blocks() && { return std::move(blocks_); }

 private:
  std::uint64_t bytes_;
  std::uint64_t block_bytes_;
  std::uint64_t received_bytes_ = 0;
  std::uint64_t received_count_ = 0;
  std::vector<std::string> blocks_;  // no block has zero bytes, so an empty text is a missing one
};

/// Asks several peers, each for all blocks, and never mixes the blocks of two. Not thread-safe.
///
/// Events of a peer that is not connected, or whose connection it has closed, have no effect. After the first
/// right metadata no event has any.
class MetadataDownload final {
 public:
  using Time = base::Clock::time_point;
  using Peer = std::uint64_t;  ///< a connection; each gets a number of its own

  struct Request {
    Peer peer;
    std::uint8_t message_id;  ///< by which the peer knows BEP 9 (BEP 10)
    std::uint64_t block;
  };
  /// The connection must be closed. The peer may connect again, and is then asked again.
  struct Close {
    Peer peer;
  };
  /// As Close; in addition the peer has sent metadata without the info-hash.
  struct Lie {
    Peer peer;
  };
  using Action = std::variant<Request, Close, Lie>;

  static constexpr std::size_t kAskedMax = 8;
  static constexpr std::uint64_t kBlocksAhead = 16;
  static constexpr std::chrono::seconds kBlockPatience{10};
  static constexpr std::chrono::seconds kTurn{20};

  /// The sizes of all peers that are asked at a time come to at most `bytes_max`. Only tests choose another
  /// length of the blocks.
  MetadataDownload(const std::optional<base::Sha1>& infohash_v1,
                   const std::optional<base::Sha256>& infohash_v2, std::uint64_t bytes_max,
                   std::uint64_t block_bytes = MetadataBlocks::kBlockBytes);

  // ---- Events ----

  /// A preferred peer is asked before others, and does not lose its turn to them.
  void connect(Peer peer, bool preferred);
  /// The peer says in its extension handshake that it has metadata. Only its first offer counts, and one with
  /// numbers out of range counts as none.
  void offer(Peer peer, std::int64_t message_id, std::int64_t size_bytes, Time now);
  void receive(Peer peer, std::string_view message, Time now);
  void disconnect(Peer peer, Time now);
  /// Call about once a second.
  void tick(Time now);

  // ---- Results ----

  /// What has to be done since the last call, in this order.
  [[nodiscard]] std::vector<Action> take_actions() { return std::exchange(actions_, {}); }
  /// The info dictionary in blocks, once a peer has sent all of it; else nothing.
  [[nodiscard]] std::vector<std::string> take_result() { return std::exchange(result_, {}); }
  /// What the connected peer that is furthest ahead has sent, for the display: the sum over all peers would
  /// exceed the size.
  [[nodiscard]] std::uint64_t furthest_bytes() const;
  /// All bytes of blocks that were missing when they came. Never decreases.
  [[nodiscard]] std::uint64_t accepted_bytes() const { return accepted_bytes_; }
  /// The memory that the blocks of all peers take.
  [[nodiscard]] std::uint64_t held_bytes() const;

 private:
  struct Silent {};  // has offered nothing
  struct Waiting {
    std::uint8_t message_id;
    std::uint64_t bytes;
  };
  struct Asked {
    std::uint8_t message_id;
    MetadataBlocks blocks;
    std::uint64_t next = 0;  // the next block to request
    Time started;
    Time last_block;
  };
  struct Closed {};  // we close the connection
  struct State {
    bool preferred = false;
    std::variant<Silent, Waiting, Asked, Closed> exchange;
  };

  void take_block(Peer peer, State& state, const MetadataMessage& message, Time now);
  void judge(Peer peer, State& state);
  void close(Peer peer, State& state);
  void request_ahead(Peer peer, Asked& asked);
  void start_waiting(Time now);
  std::optional<Peer> find_slowest(Time now) const;

  std::optional<base::Sha1> infohash_v1_;
  std::optional<base::Sha256> infohash_v2_;
  std::uint64_t bytes_max_;
  std::uint64_t block_bytes_;
  std::map<Peer, State> peers_;  // connected, in the order of connection
  std::vector<Action> actions_;
  std::vector<std::string> result_;
  std::uint64_t accepted_bytes_ = 0;
  bool complete_ = false;
};

}  // namespace sluice::fetch
