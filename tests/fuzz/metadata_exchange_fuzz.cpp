// Plays sequences of events to the exchange of metadata: several peers connect, offer, send right, wrong,
// repeated, unasked and broken messages, leave, and time passes. One of them, peer 0, is honest: it sends
// only what it is asked for, and only what is right. Whatever the others do, memory stays bounded, the honest
// peer is never called a liar, and at the end it delivers.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/hasher.h"
#include "base/invariant.h"
#include "fetch/swarm/metadata_download.h"

using namespace sluice;
using fetch::MetadataDownload;

namespace {

// Short blocks, so that a sequence costs microseconds: the exchange does not depend on their length.
constexpr std::uint64_t kBlock = 64;
constexpr std::uint64_t kInfoBytes = 18 * kBlock + 10;  // more blocks than are requested ahead
constexpr std::uint64_t kBytesMax = 50 * kBlock;
constexpr std::size_t kPeers = 6;

const std::string& info() {
  static const std::string text = [] {
    std::string made(kInfoBytes, 'x');
    for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<char>(i % 251);
    return made;
  }();
  return text;
}

/// Reads the input; behind its end everything is zero.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool empty() const { return size_ == 0; }
  std::uint8_t byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  std::string text(std::size_t length) {
    length = std::min(length, size_);
    std::string text(reinterpret_cast<const char*>(data_), length);
    data_ += length;
    size_ -= length;
    return text;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

std::string data_message(std::uint64_t block, const std::string& bytes) {
  return "d8:msg_typei1e5:piecei" + std::to_string(block) + "e10:total_sizei" + std::to_string(kInfoBytes) +
         "ee" + bytes;
}

std::string right_block(std::uint64_t block) {
  return block * kBlock < info().size() ? info().substr(block * kBlock, kBlock) : std::string();
}

class Swarm {
 public:
  void play(Input& input) {
    for (int steps = 0; !input.empty() && steps < 400 && !done_; ++steps) {
      step(input.byte(), input.byte() % kPeers, input);
      follow();
    }
    deliver();
  }

 private:
  struct Peer {
    MetadataDownload::Peer id = 0;  // 0: not connected
    std::vector<std::uint64_t> requested;
    std::string last;
  };

  void step(std::uint8_t kind, std::size_t slot, Input& input) {
    Peer& peer = peers_[slot];
    switch (kind % 11) {
      case 0: connect(slot, (kind & 128) != 0); break;
      case 1: offer(slot, input); break;
      case 2: answer(slot, false); break;
      case 3: pass(std::chrono::milliseconds(100 * input.byte())); break;
      case 4: disconnect(slot); break;
      default: break;
    }
    if (slot == 0) return;  // the rest is what no honest peer does
    switch (kind % 11) {
      case 5: answer(slot, true); break;
      case 6: {
        const std::uint64_t block = input.byte() % 20;
        send(peer, data_message(block, right_block(block)));
        break;
      }
      case 7: send(peer, data_message(input.byte(), std::string(kBlock - input.byte() % 2, 'w'))); break;
      case 8: send(peer, input.text(input.byte())); break;
      case 9: send(peer, peer.last); break;
      case 10:
        send(peer, "d8:msg_typei" + std::to_string(input.byte() % 4) + "e5:piecei" +
                       std::to_string(static_cast<std::int8_t>(input.byte())) + "ee");
        break;
      default: break;
    }
  }

  void connect(std::size_t slot, bool preferred) {
    Peer& peer = peers_[slot];
    if (peer.id != 0) download_.disconnect(peer.id, now_);
    peer = {};
    peer.id = ++last_id_;
    download_.connect(peer.id, preferred);
  }

  void offer(std::size_t slot, Input& input) {
    static constexpr std::array<std::int64_t, 8> kSizes{kInfoBytes,    0, -1,         kBytesMax,
                                                        kBytesMax + 1, 1, 2 * kBlock, std::int64_t{1} << 62};
    if (slot == 0) {
      download_.offer(peers_[slot].id, 3, kInfoBytes, now_);
    } else {
      const std::int64_t id = static_cast<std::int64_t>(input.byte()) - 1;
      download_.offer(peers_[slot].id, id, kSizes[input.byte() % kSizes.size()], now_);
    }
  }

  void answer(std::size_t slot, bool wrong) {
    Peer& peer = peers_[slot];
    for (const std::uint64_t block : std::exchange(peer.requested, {})) {
      std::string bytes = right_block(block);
      if (wrong) bytes.assign(kBlock, 'w');
      send(peer, data_message(block, bytes));
    }
  }

  void send(Peer& peer, const std::string& message) {
    peer.last = message;
    download_.receive(peer.id, message, now_);
    follow();
  }

  void pass(std::chrono::milliseconds time) {
    now_ += time;
    download_.tick(now_);
  }

  void disconnect(std::size_t slot) {
    if (peers_[slot].id != 0) download_.disconnect(peers_[slot].id, now_);
    peers_[slot] = {};
  }

  Peer* find(MetadataDownload::Peer id) {
    const auto found = std::ranges::find(peers_, id, &Peer::id);
    return found == peers_.end() ? nullptr : &*found;
  }

  /// Does what the exchange asks for, and looks at what it holds.
  void follow() {
    for (const auto& action : download_.take_actions()) {
      if (const auto* request = std::get_if<MetadataDownload::Request>(&action)) {
        INVARIANT(request->block * kBlock < kBytesMax && request->message_id > 0);
        INVARIANT(!closed_.contains(request->peer));
        if (Peer* peer = find(request->peer)) peer->requested.push_back(request->block);
      } else if (const auto* close = std::get_if<MetadataDownload::Close>(&action)) {
        end(close->peer);
      } else {
        const auto liar = std::get<MetadataDownload::Lie>(action).peer;
        INVARIANT(peers_[0].id != liar);
        end(liar);
      }
    }
    INVARIANT(download_.held_bytes() <= kBytesMax);
    INVARIANT(download_.furthest_bytes() <= download_.held_bytes());
    const auto blocks = download_.take_result();
    if (blocks.empty()) return;
    std::string text;
    for (const std::string& block : blocks) text += block;
    INVARIANT(!done_ && text == info());
    done_ = true;
  }

  /// The connection ends later than it is told to, or at once, as it happens with sockets.
  void end(MetadataDownload::Peer id) {
    INVARIANT(closed_.insert(id).second);
    Peer* peer = find(id);
    if (peer == nullptr) return;
    peer->requested.clear();
    if (id % 2 == 0) return;
    download_.disconnect(id, now_);
    *peer = {};
  }

  /// From here on the honest peer comes, and comes back. A minute is enough: all others are asked before it
  /// at worst, and are silent.
  void deliver() {
    for (int second = 0; second < 60 && !done_; ++second) {
      if (peers_[0].id == 0 || closed_.contains(peers_[0].id)) {
        connect(0, false);
        download_.offer(peers_[0].id, 3, kInfoBytes, now_);
      } else if (second == 0) {
        download_.offer(peers_[0].id, 3, kInfoBytes, now_);
      }
      follow();
      answer(0, false);
      pass(std::chrono::seconds(1));
      follow();
    }
    INVARIANT(done_);
  }

  MetadataDownload download_{base::hash<base::Sha1>(base::as_bytes(info())),
                             base::hash<base::Sha256>(base::as_bytes(info())), kBytesMax, kBlock};
  MetadataDownload::Time now_{};
  std::array<Peer, kPeers> peers_;
  std::set<MetadataDownload::Peer> closed_;
  MetadataDownload::Peer last_id_ = 0;
  bool done_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  Swarm().play(input);
  return 0;
}
