// The ut_metadata protocol (BEP 9) over libtorrent's plugin interface; docs/decisions/0007 says why it is not
// libtorrent's own. Each hook of libtorrent becomes an event of MetadataDownload, and its answers become
// messages and disconnections. All of that runs in libtorrent's network thread; the mutex is for the worker's
// thread, which takes results and warnings.
//
// Invariant: no action is performed while the mutex is held, because a disconnection calls on_disconnect().

#include "fetch/swarm/metadata_exchange.h"

#include <libtorrent/bdecode.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/error_code.hpp>
#include <utility>

#include "base/stopwatch.h"

namespace sluice::fetch {
namespace {

// A block and the dictionary before it.
constexpr int kMessageBytesMax = 17 << 10;
constexpr char kExtended = 20;  // BEP 10
constexpr char kOurId = 2;
constexpr std::size_t kWarningsMax = 50;

}  // namespace

/// One connection.
class MetadataExchange::Peer final : public lt::peer_plugin {
 public:
  Peer(std::shared_ptr<MetadataExchange> exchange, const lt::peer_connection_handle& connection,
       MetadataDownload::Peer id)
      : exchange_(std::move(exchange)), connection_(connection), id_(id) {}
  ~Peer() override { leave(); }

  [[nodiscard]] const lt::peer_connection_handle& connection() const { return connection_; }

  void close() { connection_.disconnect(lt::errors::invalid_metadata_message, lt::operation_t::bittorrent); }

  // BEP 10: length (big-endian, without itself), message 20, the extended message's number, the dictionary.
  void request(std::uint8_t message_id, std::uint64_t block) {
    const std::string body = "d8:msg_typei0e5:piecei" + std::to_string(block) + "ee";
    std::string message;
    for (int shift = 24; shift >= 0; shift -= 8) message += static_cast<char>((body.size() + 2) >> shift);
    message += kExtended;
    message += static_cast<char>(message_id);
    message += body;
    connection_.send_buffer(message.data(), static_cast<int>(message.size()));
  }

  // ---- Called by libtorrent ----

  void add_handshake(lt::entry& handshake) override { handshake["m"]["ut_metadata"] = kOurId; }

  // Returning true keeps the plugin for this connection, also for a peer without metadata.
  bool on_extension_handshake(const lt::bdecode_node& handshake) override {
    const lt::bdecode_node messages = handshake.dict_find_dict("m");
    const std::int64_t message_id = messages ? messages.dict_find_int_value("ut_metadata") : 0;
    const std::int64_t size_bytes = handshake.dict_find_int_value("metadata_size");
    exchange_->handle(
        [&](MetadataDownload& download) { download.offer(id_, message_id, size_bytes, base::Clock::now()); });
    return true;
  }

  // Messages carry the number that the receiver chose in its handshake (BEP 10), so theirs to us have kOurId.
  // Returning false leaves other extensions to their own plugins.
  bool on_extended(int length, int message, lt::span<const char> body) override {
    if (message != kOurId) return false;
    // libtorrent buffers a message until it is complete, so a long one is cut off at its start.
    if (length > kMessageBytesMax) {
      close();
    } else if (connection_.packet_finished()) {
      exchange_->handle([&](MetadataDownload& download) {
        download.receive(id_, {body.data(), static_cast<std::size_t>(body.size())}, base::Clock::now());
      });
    }
    return true;
  }

  void on_disconnect(const lt::error_code& /*reason*/) override { leave(); }

 private:
  void leave() {
    if (exchange_->peers_.erase(id_) == 0) return;
    exchange_->handle([&](MetadataDownload& download) { download.disconnect(id_, base::Clock::now()); });
  }

  std::shared_ptr<MetadataExchange> exchange_;
  lt::bt_peer_connection_handle connection_;
  MetadataDownload::Peer id_;
};

MetadataExchange::MetadataExchange(const std::optional<base::Sha1>& infohash_v1,
                                   const std::optional<base::Sha256>& infohash_v2, std::uint64_t bytes_max,
                                   std::shared_ptr<PeerGate> gate)
    : gate_(std::move(gate)), download_(infohash_v1, infohash_v2, bytes_max) {}

std::vector<std::string> MetadataExchange::take() {
  const std::lock_guard lock(mutex_);
  return download_.take_result();
}

std::vector<std::string> MetadataExchange::take_warnings() {
  const std::lock_guard lock(mutex_);
  return std::exchange(warnings_, {});
}

std::uint64_t MetadataExchange::furthest_bytes() {
  const std::lock_guard lock(mutex_);
  return download_.furthest_bytes();
}

std::uint64_t MetadataExchange::accepted_bytes() {
  const std::lock_guard lock(mutex_);
  return download_.accepted_bytes();
}

std::shared_ptr<lt::peer_plugin> MetadataExchange::new_connection(
    const lt::peer_connection_handle& connection) {
  if (connection.type() != lt::connection_type::bittorrent) return nullptr;
  const MetadataDownload::Peer id = ++last_peer_;
  // libtorrent owns the plugin. The peer shares the ownership of the exchange, which it calls, and the
  // exchange has only weak references to its peers.
  auto peer = std::make_shared<Peer>(shared_from_this(), connection, id);
  peers_.emplace(id, peer);
  const bool preferred = gate_->is_named(connection.remote());
  handle([&](MetadataDownload& download) { download.connect(id, preferred); });
  return peer;
}

void MetadataExchange::tick() {
  handle([](MetadataDownload& download) { download.tick(base::Clock::now()); });
}

template <typename Event>
void MetadataExchange::handle(const Event& event) {
  std::vector<MetadataDownload::Action> actions;
  {
    const std::lock_guard lock(mutex_);
    event(download_);
    actions = download_.take_actions();
  }
  for (const MetadataDownload::Action& action : actions) perform(action);
}

void MetadataExchange::perform(const MetadataDownload::Action& action) {
  const MetadataDownload::Peer id = std::visit([](const auto& one) { return one.peer; }, action);
  const auto found = peers_.find(id);
  const auto peer = found == peers_.end() ? nullptr : found->second.lock();
  if (peer == nullptr) return;  // the connection has ended by itself
  if (const auto* request = std::get_if<MetadataDownload::Request>(&action)) {
    peer->request(request->message_id, request->block);
    return;
  }
  if (std::holds_alternative<MetadataDownload::Lie>(action) &&
      gate_->record_lie(peer->connection().remote(), direction_of(peer->connection())))
    warn_of(peer->connection().remote());
  peer->close();
}

void MetadataExchange::warn_of(const lt::tcp::endpoint& liar) {
  const std::lock_guard lock(mutex_);
  if (warnings_.size() < kWarningsMax)
    warnings_.push_back("the peer " + to_text(liar) +
                        " sent metadata that does not fit the info-hash, and is not asked again");
}

}  // namespace sluice::fetch
