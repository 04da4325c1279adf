// The ut_metadata protocol (BEP 9) over libtorrent's plugin interface; docs/decisions/0007 says why it is not
// libtorrent's own. All of it runs in libtorrent's network thread; the mutex guards only the results that the
// worker's thread takes.
//
// A Peer is one connection: it announces its metadata size in the extension handshake, waits until
// start_requests() lets it begin, and then requests all blocks, sixteen ahead. A message is a dictionary
// {"msg_type", "piece"}, behind which a data message carries the block.
//
// Invariants: at most eight peers are asked at a time and their announced sizes together fit `bytes_max`; the
// blocks of different peers are never mixed; a result is published only if it has the info-hash.

#include "fetch/swarm/metadata_exchange.h"

#include <algorithm>
#include <chrono>
#include <libtorrent/bdecode.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/error_code.hpp>
#include <utility>

#include "base/bytes.h"
#include "base/hasher.h"
#include "base/stopwatch.h"

namespace sluice::fetch {
namespace {

using base::Clock;

constexpr std::uint64_t kMetadataBlockBytes = 16 << 10;  // BEP 9
// A block and the dictionary before it.
constexpr int kMessageBytesMax = 17 << 10;
constexpr char kExtended = 20;  // BEP 10
constexpr char kOurId = 2;
// Requests that are under way while answers travel back. One request at a time would cost a round trip per
// block, and metadata of 80 MB have 5,000 blocks.
constexpr std::uint64_t kBlocksAhead = 16;
constexpr int kKindRequest = 0;
constexpr int kKindData = 1;
constexpr int kKindReject = 2;

// Several peers send the same metadata at once, because any of them may be slow or lie. The number of liars
// is bounded only to bound the memory for their addresses.
constexpr std::size_t kAskedMax = 8;
constexpr std::size_t kLiarsMax = 1000;
constexpr std::chrono::seconds kBlockPatience{10};
constexpr std::chrono::seconds kTurn{20};  // a waiting peer does not replace another one before this time

template <typename Digest>
bool matches(const std::optional<Digest>& expected, const std::vector<std::string>& blocks) {
  if (!expected) return true;
  base::Hasher<Digest> hasher;
  for (const std::string& block : blocks) hasher.update(base::as_bytes(block));
  return hasher.final() == *expected;
}

}  // namespace

/// The exchange with one peer.
class MetadataExchange::Peer final : public lt::peer_plugin {
 public:
  Peer(std::shared_ptr<MetadataExchange> exchange, const lt::peer_connection_handle& connection)
      : exchange_(std::move(exchange)), connection_(connection) {}

  [[nodiscard]] bool waits() const { return size_ > 0 && !asked_ && !closed_; }
  [[nodiscard]] bool asked() const { return asked_ && !closed_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] bool silent(Clock::time_point now) const { return now - last_block_ > kBlockPatience; }
  [[nodiscard]] Clock::duration turn(Clock::time_point now) const { return now - started_; }
  [[nodiscard]] double bytes_per_s(Clock::time_point now) const {
    return static_cast<double>(received_bytes_) / base::to_seconds(turn(now));
  }
  [[nodiscard]] lt::address address() const { return connection_.remote().address(); }
  [[nodiscard]] std::vector<std::string>& blocks() { return blocks_; }

  void begin() {
    asked_ = true;
    blocks_.resize(base::divide_up(size_, kMetadataBlockBytes));
    started_ = last_block_ = Clock::now();
    ask();
  }

  /// Disconnects. The peer may connect again and is then asked again.
  void close() { connection_.disconnect(lt::errors::invalid_metadata_message, lt::operation_t::bittorrent); }

  // ---- Called by libtorrent ----

  void add_handshake(lt::entry& handshake) override { handshake["m"]["ut_metadata"] = kOurId; }

  // Returning true keeps the plugin for this connection. A peer without metadata, or with more than fits, is
  // kept and never asked.
  bool on_extension_handshake(const lt::bdecode_node& handshake) override {
    const lt::bdecode_node messages = handshake.dict_find_dict("m");
    const std::int64_t id = messages ? messages.dict_find_int_value("ut_metadata") : 0;
    const std::int64_t size = handshake.dict_find_int_value("metadata_size");
    // A handshake may be repeated; the first size counts, because blocks_ depends on it.
    if (size_ > 0 || id <= 0 || id > 255 || size <= 0) return true;
    if (static_cast<std::uint64_t>(size) > exchange_->bytes_max_) return true;
    their_id_ = static_cast<char>(id);
    size_ = static_cast<std::uint64_t>(size);
    exchange_->start_requests();
    return true;
  }

  // Messages carry the number that the receiver chose in its handshake (BEP 10), so ours have kOurId and
  // theirs their_id_. Returning false leaves other extensions to their own plugins.
  bool on_extended(int length, int message, lt::span<const char> body) override {
    if (message != kOurId) return false;
    // libtorrent buffers a message until it is complete, so a long one is cut off at its start.
    if (length > kMessageBytesMax) {
      close();
    } else if (connection_.packet_finished()) {
      handle({body.data(), static_cast<std::size_t>(body.size())});
    }
    return true;
  }

  // A place among the asked peers is free, and perhaps memory for one that waited.
  void on_disconnect(const lt::error_code& /*reason*/) override {
    closed_ = true;
    blocks_.clear();
    exchange_->start_requests();
  }

 private:
  void ask() {
    for (; next_ < std::min<std::uint64_t>(blocks_.size(), received_blocks_ + kBlocksAhead); ++next_)
      send("d8:msg_typei" + std::to_string(kKindRequest) + "e5:piecei" + std::to_string(next_) + "ee");
  }

  // BEP 10: length (big-endian, without itself), message 20, the extended message's number, the dictionary.
  void send(const std::string& body) {
    std::string message;
    for (int shift = 24; shift >= 0; shift -= 8) message += static_cast<char>((body.size() + 2) >> shift);
    message += kExtended;
    message += their_id_;
    message += body;
    connection_.send_buffer(message.data(), static_cast<int>(message.size()));
  }

  void handle(std::string_view body) {
    lt::error_code error;
    const lt::bdecode_node message = lt::bdecode(body, error);
    if (error || message.type() != lt::bdecode_node::dict_t) return close();
    const std::int64_t kind = message.dict_find_int_value("msg_type", -1);
    if (kind == kKindReject) return close();  // the peer has no metadata yet; another one may
    if (kind != kKindData || !asked()) return;
    const std::int64_t index = message.dict_find_int_value("piece", -1);
    if (index < 0) return close();
    take(static_cast<std::uint64_t>(index),
         body.substr(
             static_cast<std::size_t>(message.data_section().size())));  // the block follows the dictionary
  }

  /// Accepts blocks in any order, because libtorrent does not answer requests in order.
  void take(std::uint64_t index, std::string_view block) {
    // A block that was not requested or has come before, or has the wrong length, is a broken peer or an
    // attack.
    if (index >= next_ || !blocks_[index].empty()) return close();
    if (block.size() != std::min(kMetadataBlockBytes, size_ - index * kMetadataBlockBytes)) return close();
    blocks_[index] = block;
    ++received_blocks_;
    received_bytes_ += block.size();
    last_block_ = Clock::now();
    // For the display, the progress of the peer that is furthest ahead: the sum over all peers would exceed
    // the size.
    if (received_bytes_ > exchange_->received_bytes_) exchange_->received_bytes_ = received_bytes_;
    if (received_bytes_ < size_)
      ask();
    else
      exchange_->verify(*this);
  }

  std::shared_ptr<MetadataExchange> exchange_;
  lt::bt_peer_connection_handle connection_;
  char their_id_ = 0;
  std::uint64_t size_ = 0;  // of the metadata, as the peer says; 0: it has none
  std::uint64_t next_ = 0;  // the next block to request
  std::uint64_t received_blocks_ = 0;
  std::uint64_t received_bytes_ = 0;
  std::vector<std::string> blocks_;  // an empty string stands for a missing block
  Clock::time_point started_;
  Clock::time_point last_block_;
  bool asked_ = false;
  bool closed_ = false;
};

MetadataExchange::MetadataExchange(const std::optional<base::Sha1>& infohash_v1,
                                   const std::optional<base::Sha256>& infohash_v2, std::uint64_t bytes_max)
    : infohash_v1_(infohash_v1), infohash_v2_(infohash_v2), bytes_max_(bytes_max) {}

std::vector<std::string> MetadataExchange::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(result_, {});
}

std::vector<std::string> MetadataExchange::take_warnings() {
  const std::lock_guard lock(mutex_);
  return std::exchange(warnings_, {});
}

std::shared_ptr<lt::peer_plugin> MetadataExchange::new_connection(
    const lt::peer_connection_handle& connection) {
  if (connection.type() != lt::connection_type::bittorrent) return nullptr;
  // By address and not by port: a liar could otherwise return with each new connection.
  if (liars_.contains(connection.remote().address())) return nullptr;
  // libtorrent owns the plugin. The peer shares the ownership of the exchange, which it calls, and the
  // exchange has only weak references to its peers.
  auto peer = std::make_shared<Peer>(shared_from_this(), connection);
  peers_.push_back(peer);
  return peer;
}

std::vector<std::shared_ptr<MetadataExchange::Peer>> MetadataExchange::peers() {
  std::vector<std::shared_ptr<Peer>> peers;
  // libtorrent owns the plugins; those of closed connections have expired.
  std::erase_if(peers_, [&](const std::weak_ptr<Peer>& weak) {
    auto peer = weak.lock();
    if (!peer) return true;
    peers.push_back(std::move(peer));
    return false;
  });
  return peers;
}

/// Starts the exchange with waiting peers, as many as the limits allow.
void MetadataExchange::start_requests() {
  const auto peers = this->peers();
  std::size_t asked = 0;
  std::uint64_t claimed_bytes = 0;
  for (const auto& peer : peers) {
    if (!peer->asked()) continue;
    ++asked;
    claimed_bytes += peer->size();
  }
  for (const auto& peer : peers) {
    if (asked >= kAskedMax) break;
    if (!peer->waits() || claimed_bytes + peer->size() > bytes_max_) continue;
    ++asked;
    claimed_bytes += peer->size();
    peer->begin();
  }
}

/// Disconnects silent peers and, while others wait, the slowest one whose turn is over.
void MetadataExchange::tick() {
  const auto now = Clock::now();
  const auto peers = this->peers();
  const bool others_wait = std::ranges::any_of(peers, &Peer::waits);
  std::shared_ptr<Peer> slowest;
  for (const auto& peer : peers) {
    if (!peer->asked()) continue;
    if (peer->silent(now)) {
      peer->close();
    } else if (others_wait && peer->turn(now) > kTurn &&
               (!slowest || peer->bytes_per_s(now) < slowest->bytes_per_s(now))) {
      slowest = peer;
    }
  }
  if (slowest) slowest->close();
}

void MetadataExchange::verify(Peer& peer) {
  if (matches(infohash_v1_, peer.blocks()) && matches(infohash_v2_, peer.blocks())) {
    const std::lock_guard lock(mutex_);
    result_ = std::move(peer.blocks());
    return;
  }
  if (liars_.size() < kLiarsMax && liars_.insert(peer.address()).second) {
    const std::lock_guard lock(mutex_);
    warnings_.push_back("the peer " + peer.address().to_string() +
                        " sent metadata that does not fit the info-hash, and is not asked again");
  }
  peer.close();
}

}  // namespace sluice::fetch
