// The exchange of metadata as a state machine: what peers can bring about, event by event. The fuzz target
// metadata_exchange plays random sequences.

#include "fetch/swarm/metadata_download.h"

#include <doctest/doctest.h>

#include <vector>

#include "base/bytes.h"
#include "base/hasher.h"

using namespace sluice;
using fetch::MetadataDownload;
using fetch::MetadataMessage;
using std::chrono::seconds;

namespace {

constexpr std::uint64_t kBlock = fetch::MetadataBlocks::kBlockBytes;
const MetadataDownload::Time kStart{};
const std::string kInfo = std::string(kBlock, 'a') + std::string(kBlock, 'b') + "end";

std::string data(std::uint64_t block, const std::string& bytes) {
  return "d8:msg_typei1e5:piecei" + std::to_string(block) + "e10:total_sizei1ee" + bytes;
}

std::string right(std::uint64_t block) { return data(block, kInfo.substr(block * kBlock, kBlock)); }

struct Download {
  MetadataDownload exchange{base::hash<base::Sha1>(base::as_bytes(kInfo)),
                            base::hash<base::Sha256>(base::as_bytes(kInfo)), 8 * kBlock};

  void add(MetadataDownload::Peer peer, std::uint64_t bytes = kInfo.size(), bool preferred = false) {
    exchange.connect(peer, preferred);
    exchange.offer(peer, 3, static_cast<std::int64_t>(bytes), kStart);
  }
  void send(MetadataDownload::Peer peer, const std::string& message, seconds after = {}) {
    exchange.receive(peer, message, kStart + after);
  }
  void send_all(MetadataDownload::Peer peer) {
    for (std::uint64_t block = 0; block < 3; ++block) send(peer, right(block));
  }
  /// The actions since the last call, as text.
  std::string actions() {
    std::string text;
    for (const auto& action : exchange.take_actions()) {
      if (const auto* request = std::get_if<MetadataDownload::Request>(&action))
        text += "ask " + std::to_string(request->peer) + ":" + std::to_string(request->block) + " ";
      else if (const auto* close = std::get_if<MetadataDownload::Close>(&action))
        text += "close " + std::to_string(close->peer) + " ";
      else
        text += "liar " + std::to_string(std::get<MetadataDownload::Lie>(action).peer) + " ";
    }
    return text;
  }
  std::string result() {
    std::string text;
    for (const std::string& block : exchange.take_result()) text += block;
    return text;
  }
};

}  // namespace

TEST_CASE("metadata come from one peer in any order") {
  Download download;
  download.add(1);
  CHECK(download.actions() == "ask 1:0 ask 1:1 ask 1:2 ");
  for (const std::uint64_t block : {2u, 0u, 1u}) {
    CHECK(download.result().empty());
    download.send(1, right(block));
  }
  CHECK(download.actions().empty());
  CHECK(download.result() == kInfo);
  CHECK(download.result().empty());
}

TEST_CASE("blocks that come again after the metadata are complete have no effect") {
  Download download;
  download.add(1);
  download.add(2);
  SUBCASE("from the peer that has delivered") {
    download.send_all(1);
    for (int i = 0; i < 8; ++i) download.send(1, right(0));
    download.send(2, right(0));
    download.exchange.tick(kStart + seconds(100));
    CHECK(download.result() == kInfo);
    CHECK(download.actions().empty());
  }
  SUBCASE("from a peer that has lied") {
    static_cast<void>(download.actions());
    download.send(1, right(0));
    download.send(1, right(1));
    download.send(1, data(2, "END"));
    for (int i = 0; i < 8; ++i) download.send(1, right(0));
    CHECK(download.actions() == "liar 1 ");
    download.send_all(2);
    CHECK(download.result() == kInfo);
  }
}

TEST_CASE("a repeated block is neither an error nor progress") {
  Download download;
  download.add(1);
  static_cast<void>(download.actions());
  download.send(1, right(0));
  download.send(1, right(0), seconds(9));
  CHECK(download.exchange.accepted_bytes() == kBlock);
  CHECK(download.actions().empty());
  download.exchange.tick(kStart + seconds(11));
  CHECK(download.actions() == "close 1 ");
}

TEST_CASE("a peer that sends what was not requested, or nonsense, loses its connection") {
  for (const std::string& message : std::vector<std::string>{
           data(3, "x"), data(std::uint64_t{1} << 62, std::string(kBlock, 'x')), data(0, "short"),
           data(2, "long"), data(0, ""), "d8:msg_typei2e5:piecei0ee", "d8:msg_typei1e5:piecei-1ee", "", "le",
           "d8:msg_typei1ee", "d8:msg_typei1e5:piecei99999999999999999999ee"}) {
    CAPTURE(message.substr(0, 60));
    Download download;
    download.add(1);
    static_cast<void>(download.actions());
    download.send(1, message);
    CHECK(download.actions() == "close 1 ");
    download.send(1, message);
    download.send_all(1);
    CHECK(download.actions().empty());
    CHECK(download.result().empty());
    CHECK(download.exchange.held_bytes() == 0);
  }
}

TEST_CASE("blocks from a peer that has not been asked are ignored") {
  Download download;
  download.exchange.connect(1, false);
  download.send(1, right(0));
  download.send(7, right(0));
  CHECK(download.actions().empty());
  CHECK(download.exchange.held_bytes() == 0);
}

TEST_CASE("only a peer's first usable offer counts") {
  Download download;
  download.exchange.connect(1, false);
  for (const auto& [id, bytes] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {0, 10}, {-1, 10}, {256, 10}, {3, 0}, {3, -1}, {3, 8 * kBlock + 1}, {3, std::int64_t{1} << 62}})
    download.exchange.offer(1, id, bytes, kStart);
  CHECK(download.actions().empty());
  download.exchange.offer(1, 3, static_cast<std::int64_t>(kInfo.size()), kStart);
  CHECK(download.actions() == "ask 1:0 ask 1:1 ask 1:2 ");
  download.exchange.offer(1, 3, 5, kStart);
  download.send_all(1);
  CHECK(download.result() == kInfo);
}

TEST_CASE("sizes that peers claim do not exceed the memory together") {
  Download download;
  download.add(1, 7 * kBlock);
  static_cast<void>(download.actions());
  download.add(2, 2 * kBlock);
  CHECK(download.actions().empty());
  download.add(3, kBlock);
  CHECK(download.actions() == "ask 3:0 ");
  download.exchange.disconnect(1, kStart);
  CHECK(download.actions() == "ask 2:0 ask 2:1 ");
}

TEST_CASE("silent and slow peers make way, and preferred ones only for their like") {
  Download download;
  download.add(1, 4 * kBlock);
  download.add(2, 4 * kBlock, true);
  download.add(3, 4 * kBlock);
  static_cast<void>(download.actions());
  const std::string block(kBlock, 'x');
  for (const unsigned s : {0u, 8u, 16u}) {
    download.send(1, data(s / 8, block), seconds(s));
    if (s != 8) download.send(2, data(s / 16, block), seconds(s));
    download.exchange.tick(kStart + seconds(s));
    CHECK(download.actions().empty());
  }
  download.exchange.tick(kStart + seconds(21));
  // The second one is slower, but was named by the user, and the waiting one was not.
  CHECK(download.actions() == "close 1 ask 3:0 ask 3:1 ask 3:2 ask 3:3 ");
  download.exchange.tick(kStart + seconds(25));
  CHECK(download.actions() == "");
  download.exchange.tick(kStart + seconds(31));
  CHECK(download.actions() == "close 2 ");
}

TEST_CASE("a waiting peer that is preferred is asked before earlier ones") {
  Download download;
  for (MetadataDownload::Peer peer = 1; peer <= MetadataDownload::kAskedMax; ++peer) download.add(peer, 1);
  download.add(9, 1);
  download.add(10, 1, true);
  static_cast<void>(download.actions());
  download.exchange.disconnect(1, kStart);
  CHECK(download.actions() == "ask 10:0 ");
}

TEST_CASE("messages are read with any further keys, and refused where they are cut") {
  const std::string text = "d1:ad1:bli1e1:xee8:msg_typei1e5:piecei2e10:total_sizei3eeBYTES";
  const auto message = fetch::parse_metadata_message(text);
  REQUIRE(message.has_value());
  CHECK(message->kind == MetadataMessage::Kind::data);
  CHECK(message->block == 2);
  CHECK(message->bytes == "BYTES");
  for (std::size_t length = 0; length < text.size() - 5; ++length) {
    CAPTURE(length);
    CHECK_FALSE(fetch::parse_metadata_message(text.substr(0, length)).has_value());
  }
}

TEST_CASE("what is not a message of BEP 9 is refused") {
  for (const std::string& text : std::vector<std::string>{
           "i1e", "d5:piecei0ee", "d8:msg_typei1ee", "d8:msg_type1:15:piecei0ee",
           "d8:msg_typei1e5:piecei-1ee", "d8:msg_typei1e5:piecei9223372036854775808ee", "di1ei2ee",
           "d8:msg_typei1e5:piecei0e1:a2:xe",
           "d1:a" + std::string(100, 'l') + std::string(100, 'e') + "8:msg_typei1e5:piecei0ee",
           "d99999999999999999999:a", "d-1:a", "d1:aie8:msg_typei1e5:piecei0ee"}) {
    CAPTURE(text);
    CHECK_FALSE(fetch::parse_metadata_message(text).has_value());
  }
}
