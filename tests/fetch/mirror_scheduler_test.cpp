// The choice of pieces for mirrors while a swarm works on the same release.

#include "fetch/mirror/mirror_scheduler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

using namespace sluice;

namespace {

constexpr std::uint64_t kPieceBytes = 16384;
constexpr std::uint64_t kPieces = 8;

format::ReleaseLayout make_layout() {
  format::ReleaseLayout layout;
  layout.name = "model";
  layout.piece_bytes = kPieceBytes;
  layout.v1_pieces.resize(kPieces);
  layout.files.push_back({.path = "weights",
                          .length_bytes = kPieces * kPieceBytes,
                          .pad = false,
                          .root = {},
                          .piece_layer = {},
                          .leaves = {}});
  return layout;
}

using Pieces = std::vector<std::uint64_t>;

/// A transfer that records what its scheduler does.
struct Transfer {
  format::ReleaseLayout layout = make_layout();
  fetch::PieceMap map{layout};
  fetch::PieceOrder order{layout, map, {true}};
  std::vector<bool> durable = std::vector<bool>(kPieces, false);
  Pieces added;
  std::set<std::uint64_t> reserved;
  fetch::MirrorScheduler scheduler;

  explicit Transfer(const fetch::SchedulerOptions& options = {})
      : scheduler(order, map,
                  {.add = [this](std::uint64_t piece, const std::vector<char>&) { added.push_back(piece); },
                   .reserve =
                       [this](std::uint64_t piece, bool on) {
                         if (on)
                           reserved.insert(piece);
                         else
                           reserved.erase(piece);
                       },
                   .warn = [](const std::string&) {}},
                  options) {}

  void update(std::set<std::uint64_t> partial = {}, bool needed = true) {
    scheduler.update(durable, std::move(partial), needed);
  }

  Pieces take(std::uint64_t count_max) {
    return take(count_max, [](std::uint64_t) { return true; });
  }
  Pieces take(std::uint64_t count_max, const std::function<bool(std::uint64_t)>& has) {
    const fetch::PieceRun run = scheduler.claim(count_max, has);
    Pieces pieces;
    for (std::uint64_t i = 0; i < run.count; ++i) pieces.push_back(run.first + i);
    return pieces;
  }
};

using std::chrono::milliseconds;
constexpr fetch::SchedulerOptions kImpatient{.overdue_after = milliseconds(0)};

void wait_a_little() { std::this_thread::sleep_for(milliseconds(5)); }

}  // namespace

TEST_CASE("mirrors get nothing before they are needed") {
  Transfer transfer;
  CHECK(transfer.take(8).empty());
  transfer.update({}, false);
  CHECK(transfer.take(8).empty());
  transfer.update();
  CHECK((transfer.take(3) == Pieces{0, 1, 2}));
  CHECK((transfer.reserved == std::set<std::uint64_t>{0, 1, 2}));
}

TEST_CASE("mirrors get what is missing, each piece one of them") {
  Transfer transfer;
  transfer.durable[1] = transfer.durable[4] = true;
  transfer.update();
  CHECK((transfer.take(8) == Pieces{0}));
  CHECK((transfer.take(8, [](std::uint64_t piece) { return piece != 3; }) == Pieces{2}));
  CHECK((transfer.take(8) == Pieces{3}));
  CHECK((transfer.take(2) == Pieces{5, 6}));
  CHECK((transfer.take(2) == Pieces{7}));
  CHECK(transfer.take(2).empty());
}

TEST_CASE("what peers have begun is left to them while there is something else") {
  Transfer transfer;
  transfer.update({0, 1, 3});
  CHECK((transfer.take(8) == Pieces{2}));
  CHECK((transfer.take(8) == Pieces{4, 5, 6, 7}));
  CHECK((transfer.take(8) == Pieces{0, 1}));
  CHECK((transfer.take(8) == Pieces{3}));
}

TEST_CASE("a piece that a mirror cannot bring is for the others") {
  Transfer transfer;
  transfer.update();
  CHECK((transfer.take(2) == Pieces{0, 1}));
  transfer.scheduler.release(0);
  CHECK((transfer.reserved == std::set<std::uint64_t>{1}));
  CHECK((transfer.take(8) == Pieces{0}));
}

TEST_CASE("a piece that is added counts as taken until it is durable, lost or refused") {
  SUBCASE("durable") {
    Transfer transfer;
    transfer.update();
    CHECK(transfer.take(8).size() == 8);
    transfer.scheduler.complete(0, {});
    transfer.durable[0] = true;
    transfer.update();
    CHECK((transfer.added == Pieces{0}));
    CHECK(transfer.take(8).empty());
  }
  SUBCASE("lost: its hash was wrong, since a peer had brought a part of it") {
    Transfer transfer;
    transfer.update();
    CHECK(transfer.take(8).size() == 8);
    transfer.scheduler.complete(0, {});
    CHECK(transfer.take(8).empty());
    transfer.scheduler.record_lost(0);
    CHECK((transfer.take(8) == Pieces{0}));
  }
  SUBCASE("refused: it does not come to be durable") {
    Transfer transfer({.refused_after = milliseconds(0)});
    transfer.update();
    CHECK(transfer.take(8).size() == 8);
    transfer.scheduler.complete(0, {});
    wait_a_little();
    transfer.update();
    CHECK((transfer.take(8) == Pieces{0}));
  }
  SUBCASE("durable, and then found wrong") {
    Transfer transfer;
    transfer.durable = std::vector<bool>(kPieces, true);
    transfer.update();
    CHECK(transfer.take(8).empty());
    transfer.durable[2] = false;
    transfer.scheduler.record_lost(2);
    transfer.update();
    CHECK((transfer.take(8) == Pieces{2}));
  }
}

TEST_CASE("in the end another mirror tries what one is slow to bring") {
  Transfer transfer(kImpatient);
  transfer.update();
  CHECK((transfer.take(8).size() == 8));
  wait_a_little();
  transfer.scheduler.complete(0, {});
  CHECK((transfer.take(2) == Pieces{1, 2}));
  wait_a_little();
  CHECK((transfer.take(2) == Pieces{3, 4}));  // two at the most
  SUBCASE("the first one counts") {
    transfer.scheduler.complete(1, {});
    transfer.scheduler.complete(1, {});
    CHECK((transfer.added == Pieces{0, 1}));
  }
  SUBCASE("one that fails does not take it from the other") {
    transfer.scheduler.release(1);
    CHECK(transfer.reserved.contains(1));
    wait_a_little();
    CHECK((transfer.take(1) == Pieces{1}));
    transfer.scheduler.release(1);
    transfer.scheduler.release(1);
    CHECK_FALSE(transfer.reserved.contains(1));
    CHECK((transfer.take(1) == Pieces{1}));
  }
  SUBCASE("what has come from the swarm meanwhile is not added") {
    transfer.durable[1] = true;
    transfer.update();
    transfer.scheduler.complete(1, {});
    CHECK((transfer.added == Pieces{0}));
  }
}

TEST_CASE("pieces on their way to the disk take no more memory than they may") {
  Transfer transfer({.memory_bytes = 3 * kPieceBytes});
  transfer.update();
  CHECK((transfer.take(2) == Pieces{0, 1}));
  CHECK((transfer.take(2) == Pieces{2}));
  CHECK(transfer.take(2).empty());
  transfer.scheduler.complete(0, {});
  CHECK(transfer.take(2).empty());
  transfer.durable[0] = true;
  transfer.update();
  CHECK((transfer.take(2) == Pieces{3}));

  Transfer tight({.memory_bytes = 1});
  tight.update();
  CHECK((tight.take(2) == Pieces{0}));
  CHECK(tight.take(2).empty());
}
