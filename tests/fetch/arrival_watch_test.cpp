// When a fetch gives up waiting for peers.

#include "fetch/arrival_watch.h"

#include <doctest/doctest.h>

using sluice::fetch::ArrivalWatch;
using std::chrono::seconds;

namespace {
const ArrivalWatch::Time kStart{};
constexpr std::uint64_t kPiece = 1000;
}  // namespace

TEST_CASE("a fetch ends when nothing arrives for the timeout, and never without one") {
  const ArrivalWatch watch(10, kStart);
  CHECK_FALSE(watch.expired(kStart + seconds(10)));
  CHECK(watch.expired(kStart + seconds(11)));
  CHECK(watch.waiting_s(kStart + seconds(11)) == 11);
  CHECK_FALSE(ArrivalWatch(0, kStart).expired(kStart + seconds(1'000'000)));
}

TEST_CASE("proven bytes keep a fetch going without end") {
  ArrivalWatch watch(10, kStart);
  for (int s = 0; s < 1000; s += 9) {
    CHECK_FALSE(watch.expired(kStart + seconds(s)));
    watch.record(kPiece * static_cast<unsigned>(s + 1), kPiece * static_cast<unsigned>(s + 1),
                 kStart + seconds(s));
  }
}

TEST_CASE("a slow peer may take its time for a piece") {
  ArrivalWatch watch(10, kStart);
  int s = 0;
  for (; s < 45; ++s) {
    watch.record(0, static_cast<unsigned>(s) * 10, kStart + seconds(s));
    CHECK_FALSE(watch.expired(kStart + seconds(s)));
  }
  watch.record(kPiece, kPiece, kStart + seconds(s));
  CHECK_FALSE(watch.expired(kStart + seconds(s + 10)));
}

TEST_CASE("rubbish that is found out does not count") {
  ArrivalWatch watch(10, kStart);
  // Each second a piece arrives, is found wrong and is dropped.
  int s = 1;
  for (; !watch.expired(kStart + seconds(s)) && s < 100; ++s) {
    watch.record(0, kPiece, kStart + seconds(s));
    watch.record(0, 0, kStart + seconds(s));
  }
  CHECK(s == 12);
}

TEST_CASE("rubbish that is not found out ends a fetch, too") {
  ArrivalWatch watch(10, kStart);
  int s = 1;
  for (; !watch.expired(kStart + seconds(s)) && s < 1000; ++s)
    watch.record(0, kPiece * static_cast<unsigned>(s), kStart + seconds(s));
  CHECK(s == 51);
}

TEST_CASE("a fresh worker counts from zero, and hashing counts as proven") {
  ArrivalWatch watch(10, kStart);
  watch.record(5 * kPiece, 5 * kPiece, kStart);
  watch.start_worker();
  watch.record_proven(kStart + seconds(9));
  watch.record(kPiece, kPiece, kStart + seconds(18));
  CHECK_FALSE(watch.expired(kStart + seconds(28)));
  CHECK(watch.expired(kStart + seconds(29)));
}
