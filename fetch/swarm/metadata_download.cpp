// Each connected peer is in one of four states:
//
//   Silent ──offer──▶ Waiting ──a place is free──▶ Asked ──right metadata──▶ (all peers are dropped)
//                                                    └──silence, nonsense, a lie, another's turn──▶ Closed
//
// Only Asked has blocks, and a peer leaves that state in the moment in which its blocks are moved away. So no
// message can reach blocks that are gone, whatever peers send late, twice or unasked.
//
// Invariants: at most kAskedMax peers are Asked, and their sizes together are at most bytes_max_; each peer
// causes at most one Close or Lie; the result has the info-hash.

#include "fetch/swarm/metadata_download.h"

#include <algorithm>
#include <limits>

#include "base/bytes.h"
#include "base/hasher.h"

namespace sluice::fetch {
namespace {

template <typename Digest>
bool matches(const std::optional<Digest>& expected, const std::vector<std::string>& blocks) {
  if (!expected) return true;
  base::Hasher<Digest> hasher;
  for (const std::string& block : blocks) hasher.update(base::as_bytes(block));
  return hasher.final() == *expected;
}

}  // namespace

MetadataBlocks::MetadataBlocks(std::uint64_t bytes, std::uint64_t block_bytes)
    : bytes_(bytes), block_bytes_(block_bytes), blocks_(base::divide_up(bytes, block_bytes)) {}

MetadataBlocks::Put MetadataBlocks::put(std::uint64_t index, std::string_view block) {
  if (index >= blocks_.size()) return Put::refused;
  if (block.size() != std::min(block_bytes_, bytes_ - index * block_bytes_)) return Put::refused;
  if (!blocks_[index].empty()) return Put::repeated;
  blocks_[index] = block;
  received_bytes_ += block.size();
  ++received_count_;
  return Put::taken;
}

MetadataDownload::MetadataDownload(const std::optional<base::Sha1>& infohash_v1,
                                   const std::optional<base::Sha256>& infohash_v2, std::uint64_t bytes_max,
                                   std::uint64_t block_bytes)
    : infohash_v1_(infohash_v1),
      infohash_v2_(infohash_v2),
      bytes_max_(bytes_max),
      block_bytes_(block_bytes) {}

void MetadataDownload::connect(Peer peer, bool preferred) {
  if (!complete_) peers_.try_emplace(peer, State{preferred, Silent{}});
}

void MetadataDownload::offer(Peer peer, std::int64_t message_id, std::int64_t size_bytes, Time now) {
  const auto found = peers_.find(peer);
  if (found == peers_.end() || !std::holds_alternative<Silent>(found->second.exchange)) return;
  if (message_id <= 0 || message_id > std::numeric_limits<std::uint8_t>::max()) return;
  // A peer with more than fits stays connected, because it may know other peers, and is never asked.
  if (size_bytes <= 0 || static_cast<std::uint64_t>(size_bytes) > bytes_max_) return;
  found->second.exchange =
      Waiting{static_cast<std::uint8_t>(message_id), static_cast<std::uint64_t>(size_bytes)};
  start_waiting(now);
}

void MetadataDownload::receive(Peer peer, std::string_view text, Time now) {
  const auto found = peers_.find(peer);
  if (found == peers_.end() || std::holds_alternative<Closed>(found->second.exchange)) return;
  State& state = found->second;
  const auto message = parse_metadata_message(text);
  if (!message) {
    close(peer, state);
  } else if (std::holds_alternative<Asked>(state.exchange)) {
    switch (message->kind) {
      case MetadataMessage::Kind::data: take_block(peer, state, *message, now); break;
      case MetadataMessage::Kind::reject: close(peer, state); break;  // another peer may have the metadata
      case MetadataMessage::Kind::request:
      case MetadataMessage::Kind::unknown: break;  // we have nothing to send
    }
  }
  start_waiting(now);
}

void MetadataDownload::disconnect(Peer peer, Time now) {
  if (peers_.erase(peer) > 0) start_waiting(now);
}

/// Closes silent peers and, while others wait, the slowest one whose turn is over.
void MetadataDownload::tick(Time now) {
  for (auto& [peer, state] : peers_) {
    const auto* asked = std::get_if<Asked>(&state.exchange);
    if (asked != nullptr && now - asked->last_block > kBlockPatience) close(peer, state);
  }
  start_waiting(now);
  if (const auto slowest = find_slowest(now)) close(*slowest, peers_.at(*slowest));
  start_waiting(now);
}

std::uint64_t MetadataDownload::furthest_bytes() const {
  std::uint64_t furthest = 0;
  for (const auto& [peer, state] : peers_)
    if (const auto* asked = std::get_if<Asked>(&state.exchange))
      furthest = std::max(furthest, asked->blocks.received_bytes());
  return furthest;
}

std::uint64_t MetadataDownload::held_bytes() const {
  std::uint64_t held = 0;
  for (const auto& [peer, state] : peers_)
    if (const auto* asked = std::get_if<Asked>(&state.exchange)) held += asked->blocks.received_bytes();
  return held;
}

/// `state` is Asked.
void MetadataDownload::take_block(Peer peer, State& state, const MetadataMessage& message, Time now) {
  auto& asked = std::get<Asked>(state.exchange);
  // A block that was not requested has no place even if it exists: the peer is broken or attacks.
  const auto put = message.block < asked.next ? asked.blocks.put(message.block, message.bytes)
                                              : MetadataBlocks::Put::refused;
  if (put == MetadataBlocks::Put::refused) return close(peer, state);
  // A repeated block does no harm, but must not pass for progress.
  if (put == MetadataBlocks::Put::repeated) return;
  asked.last_block = now;
  accepted_bytes_ += message.bytes.size();
  if (asked.blocks.complete())
    judge(peer, state);
  else
    request_ahead(peer, asked);
}

/// `state` is Asked, and all its blocks are there.
void MetadataDownload::judge(Peer peer, State& state) {
  MetadataBlocks blocks = std::move(std::get<Asked>(state.exchange).blocks);
  state.exchange = Closed{};
  if (!matches(infohash_v1_, blocks.blocks()) || !matches(infohash_v2_, blocks.blocks())) {
    actions_.emplace_back(Lie{peer});
    return;
  }
  complete_ = true;
  result_ = std::move(blocks).blocks();
  // Requests to other peers are pointless now, and `state` is gone.
  actions_.clear();
  peers_.clear();
}

void MetadataDownload::close(Peer peer, State& state) {
  state.exchange = Closed{};
  actions_.emplace_back(Close{peer});
}

// One request at a time would cost a round trip for each block, and metadata of 80 MB have 5,000 blocks.
void MetadataDownload::request_ahead(Peer peer, Asked& asked) {
  const std::uint64_t end = std::min(asked.blocks.count(), asked.blocks.received_count() + kBlocksAhead);
  for (; asked.next < end; ++asked.next) actions_.emplace_back(Request{peer, asked.message_id, asked.next});
}

/// Asks waiting peers, as many as the limits allow: the preferred ones first, then in the order of
/// connection.
void MetadataDownload::start_waiting(Time now) {
  std::size_t asked_count = 0;
  std::uint64_t claimed_bytes = 0;
  for (const auto& [peer, state] : peers_) {
    const auto* asked = std::get_if<Asked>(&state.exchange);
    if (asked == nullptr) continue;
    ++asked_count;
    claimed_bytes += asked->blocks.bytes();
  }
  for (const bool preferred : {true, false}) {
    for (auto& [peer, state] : peers_) {
      if (asked_count >= kAskedMax) return;
      const auto* waiting = std::get_if<Waiting>(&state.exchange);
      if (waiting == nullptr || state.preferred != preferred) continue;
      if (claimed_bytes + waiting->bytes > bytes_max_) continue;
      ++asked_count;
      claimed_bytes += waiting->bytes;
      const Waiting offer = *waiting;
      auto& asked = state.exchange.emplace<Asked>(
          Asked{offer.message_id, MetadataBlocks(offer.bytes, block_bytes_), 0, now, now});
      request_ahead(peer, asked);
    }
  }
}

/// The slowest peer whose turn is over, while another one waits. A preferred peer gives way only to one that
/// is preferred, too.
std::optional<MetadataDownload::Peer> MetadataDownload::find_slowest(Time now) const {
  bool any_waits = false;
  bool preferred_waits = false;
  for (const auto& [peer, state] : peers_) {
    if (!std::holds_alternative<Waiting>(state.exchange)) continue;
    any_waits = true;
    preferred_waits = preferred_waits || state.preferred;
  }
  std::optional<Peer> slowest;
  double slowest_rate = std::numeric_limits<double>::infinity();
  for (const auto& [peer, state] : peers_) {
    const auto* asked = std::get_if<Asked>(&state.exchange);
    if (asked == nullptr || !(state.preferred ? preferred_waits : any_waits)) continue;
    const auto turn = now - asked->started;
    if (turn <= kTurn) continue;
    const double rate = static_cast<double>(asked->blocks.received_bytes()) / base::to_seconds(turn);
    if (rate >= slowest_rate) continue;
    slowest = peer;
    slowest_rate = rate;
  }
  return slowest;
}

}  // namespace sluice::fetch
