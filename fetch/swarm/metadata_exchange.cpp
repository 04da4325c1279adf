#include "fetch/swarm/metadata_exchange.h"

#include <algorithm>
#include <chrono>
#include <libtorrent/bdecode.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/error_code.hpp>
#include <utility>

#include "base/bytes.h"
#include "base/hasher.h"

namespace sluice::fetch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMetadataBlockBytes = 16 << 10;  // BEP 9
constexpr int kMessageBytesMax = 17 << 10;
constexpr char kExtended = 20;  // BEP 10
constexpr char kOurId = 2;
constexpr std::uint64_t kBlocksAhead = 16;
constexpr int kKindRequest = 0;
constexpr int kKindData = 1;
constexpr int kKindReject = 2;

constexpr std::size_t kAskedMax = 8;
constexpr std::size_t kLiarsMax = 1000;
constexpr std::chrono::seconds kBlockPatience{10};  // for one block
constexpr std::chrono::seconds kTurn{20};           // safe from those who wait

template <typename Digest>
bool fits(const std::optional<Digest>& expected, const std::vector<std::string>& blocks) {
  if (!expected) return true;
  base::Hasher<Digest> hasher;
  for (const std::string& block : blocks) hasher.update(base::as_bytes(block));
  return hasher.final() == *expected;
}

}  // namespace

/// With one peer.
class MetadataExchange::Talk final : public lt::peer_plugin {
 public:
  Talk(std::shared_ptr<MetadataExchange> exchange, const lt::peer_connection_handle& connection)
      : exchange_(std::move(exchange)), connection_(connection) {}

  [[nodiscard]] bool waits() const { return size_ > 0 && !asked_ && !closed_; }
  [[nodiscard]] bool asked() const { return asked_ && !closed_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] bool silent(Clock::time_point now) const { return now - last_block_ > kBlockPatience; }
  [[nodiscard]] Clock::duration turn(Clock::time_point now) const { return now - started_; }
  [[nodiscard]] double bytes_per_s(Clock::time_point now) const {
    return static_cast<double>(received_bytes_) / std::chrono::duration<double>(turn(now)).count();
  }
  [[nodiscard]] lt::address address() const { return connection_.remote().address(); }
  [[nodiscard]] std::vector<std::string>& blocks() { return blocks_; }

  void begin() {
    asked_ = true;
    blocks_.resize(base::divide_up(size_, kMetadataBlockBytes));
    started_ = last_block_ = Clock::now();
    ask();
  }

  /// It may come back, and be asked again.
  void close() { connection_.disconnect(lt::errors::invalid_metadata_message, lt::operation_t::bittorrent); }

  // ---- From libtorrent ----

  void add_handshake(lt::entry& handshake) override { handshake["m"]["ut_metadata"] = kOurId; }

  bool on_extension_handshake(const lt::bdecode_node& handshake) override {
    const lt::bdecode_node messages = handshake.dict_find_dict("m");
    const std::int64_t id = messages ? messages.dict_find_int_value("ut_metadata") : 0;
    const std::int64_t size = handshake.dict_find_int_value("metadata_size");
    if (size_ > 0 || id <= 0 || id > 255 || size <= 0) return true;
    if (static_cast<std::uint64_t>(size) > exchange_->bytes_max_) return true;
    their_id_ = static_cast<char>(id);
    size_ = static_cast<std::uint64_t>(size);
    exchange_->give_turns();
    return true;
  }

  bool on_extended(int length, int message, lt::span<const char> body) override {
    if (message != kOurId) return false;
    if (length > kMessageBytesMax) {
      close();
    } else if (connection_.packet_finished()) {
      handle({body.data(), static_cast<std::size_t>(body.size())});
    }
    return true;
  }

  void on_disconnect(const lt::error_code& /*reason*/) override {
    closed_ = true;
    blocks_.clear();
    exchange_->give_turns();
  }

 private:
  void ask() {
    for (; next_ < std::min<std::uint64_t>(blocks_.size(), received_blocks_ + kBlocksAhead); ++next_)
      send("d8:msg_typei" + std::to_string(kKindRequest) + "e5:piecei" + std::to_string(next_) + "ee");
  }

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
    if (kind == kKindReject) return close();
    if (kind != kKindData || !asked()) return;
    const std::int64_t index = message.dict_find_int_value("piece", -1);
    if (index < 0) return close();
    take(static_cast<std::uint64_t>(index),
         body.substr(static_cast<std::size_t>(message.data_section().size())));
  }

  /// In any order: libtorrent answers some requests later than those that came after them.
  void take(std::uint64_t index, std::string_view block) {
    if (index >= next_ || !blocks_[index].empty()) return close();
    if (block.size() != std::min(kMetadataBlockBytes, size_ - index * kMetadataBlockBytes)) return close();
    blocks_[index] = block;
    ++received_blocks_;
    received_bytes_ += block.size();
    last_block_ = Clock::now();
    if (received_bytes_ > exchange_->received_bytes_) exchange_->received_bytes_ = received_bytes_;
    if (received_bytes_ < size_)
      ask();
    else
      exchange_->judge(*this);
  }

  std::shared_ptr<MetadataExchange> exchange_;
  lt::bt_peer_connection_handle connection_;
  char their_id_ = 0;
  std::uint64_t size_ = 0;  // as it says; 0: it has no metadata
  std::uint64_t next_ = 0;  // block to ask for
  std::uint64_t received_blocks_ = 0;
  std::uint64_t received_bytes_ = 0;
  std::vector<std::string> blocks_;  // empty where one has not come
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
  if (liars_.contains(connection.remote().address())) return nullptr;
  auto talk = std::make_shared<Talk>(shared_from_this(), connection);
  talks_.push_back(talk);
  return talk;
}

std::vector<std::shared_ptr<MetadataExchange::Talk>> MetadataExchange::talks() {
  std::vector<std::shared_ptr<Talk>> talks;
  std::erase_if(talks_, [&](const std::weak_ptr<Talk>& weak) {
    auto talk = weak.lock();
    if (!talk) return true;
    talks.push_back(std::move(talk));
    return false;
  });
  return talks;
}

/// As many are asked at a time as the memory allows.
void MetadataExchange::give_turns() {
  const auto talks = this->talks();
  std::size_t asked = 0;
  std::uint64_t claimed_bytes = 0;
  for (const auto& talk : talks) {
    if (!talk->asked()) continue;
    ++asked;
    claimed_bytes += talk->size();
  }
  for (const auto& talk : talks) {
    if (asked >= kAskedMax) break;
    if (!talk->waits() || claimed_bytes + talk->size() > bytes_max_) continue;
    ++asked;
    claimed_bytes += talk->size();
    talk->begin();
  }
}

/// Who says nothing has to go, and so has the slowest while others wait.
void MetadataExchange::tick() {
  const auto now = Clock::now();
  const auto talks = this->talks();
  const bool somebody_waits = std::ranges::any_of(talks, &Talk::waits);
  std::shared_ptr<Talk> slowest;
  for (const auto& talk : talks) {
    if (!talk->asked()) continue;
    if (talk->silent(now)) {
      talk->close();
    } else if (somebody_waits && talk->turn(now) > kTurn &&
               (!slowest || talk->bytes_per_s(now) < slowest->bytes_per_s(now))) {
      slowest = talk;
    }
  }
  if (slowest) slowest->close();
}

void MetadataExchange::judge(Talk& talk) {
  if (fits(infohash_v1_, talk.blocks()) && fits(infohash_v2_, talk.blocks())) {
    const std::lock_guard lock(mutex_);
    result_ = std::move(talk.blocks());
    return;
  }
  if (liars_.size() < kLiarsMax && liars_.insert(talk.address()).second) {
    const std::lock_guard lock(mutex_);
    warnings_.push_back("the peer " + talk.address().to_string() +
                        " sent metadata that does not fit the info-hash, and is not asked again");
  }
  talk.close();
}

}  // namespace sluice::fetch
