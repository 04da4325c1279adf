#pragma once
// Runs a MirrorPool for a scheduler that keeps the completed pieces.

#include <doctest/doctest.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "fetch/mirror/mirror.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/lt_support.h"
#include "tests/fetch/tiny_http.h"

namespace sluice::tests {

/// Names that need percent-encoding, sub-folders, v1 pieces that hold bytes of several files.
inline Files odd_files() {
  return {{"a b%20c#d?e.bin", noise(1, 70'001)},
          {"deep/er/ü+&=.bin", noise(2, 40'000)},
          {"deep/tiny", "tiny"},
          {"empty", ""},
          {"large.bin", noise(3, 3'000'000)}};
}

inline Files plain_files() { return {{"model.bin", noise(4, 16384 * 20 + 5)}, {"params.json", "{}"}}; }

struct Release {
  TempDir dir;
  Files files;
  format::ReleaseLayout layout;
  std::unique_ptr<fetch::PieceMap> map;
  std::unique_ptr<fetch::PieceVerifier> verifier;

  explicit Release(Files content, LtVersion version = LtVersion::v1) : files(std::move(content)) {
    write_files(dir / "model", files);
    use(fetch::parse_torrent(make_lt_torrent(dir / "model", version), "test"));
  }

  void use(format::ReleaseLayout changed) {
    layout = std::move(changed);
    map = std::make_unique<fetch::PieceMap>(layout);
    verifier = std::make_unique<fetch::PieceVerifier>(layout, *map);
  }

  /// As they lie below a mirror's URL, with the folder or without.
  [[nodiscard]] Files below(const std::string& prefix) const {
    Files found;
    for (const auto& [path, content] : files) found[prefix + path] = content;
    return found;
  }
};

/// Wants every piece of a release, and keeps the completed ones.
class Customer final : public fetch::PieceScheduler {
 public:
  explicit Customer(const Release& release) : release_(release) {
    for (const auto& file : release.layout.files) content_.emplace_back(file.length_bytes, '\0');
    for (std::uint64_t piece = 0; piece < release.map->piece_count(); ++piece) missing_.insert(piece);
  }

  fetch::PieceRun claim(std::uint64_t count_max, const std::function<bool(std::uint64_t)>& has) override {
    const std::lock_guard lock(mutex_);
    const auto first = std::ranges::find_if(missing_, std::cref(has));
    if (first == missing_.end()) return {};
    fetch::PieceRun run{*first, 0};
    while (run.count < count_max && missing_.contains(run.first + run.count) && has(run.first + run.count))
      missing_.erase(run.first + run.count++);
    claims_ += run.count;
    return run;
  }

  bool is_missing(std::uint64_t piece) override {
    const std::lock_guard lock(mutex_);
    return missing_.contains(piece);
  }

  void complete(std::uint64_t piece, std::vector<char> bytes) override {
    const std::lock_guard lock(mutex_);
    CHECK(bytes.size() == release_.map->piece_bytes(piece));
    for (const auto& slice : release_.map->slices(piece))
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(slice.piece_offset_bytes), slice.length_bytes,
                  content_[slice.file_index].begin() + static_cast<std::ptrdiff_t>(slice.file_offset_bytes));
    delivered_.insert(piece);
    --claims_;
    changed_.notify_all();
  }

  void release(std::uint64_t piece) override {
    const std::lock_guard lock(mutex_);
    missing_.insert(piece);
    --claims_;
  }

  void warn(const std::string& message) override {
    const std::lock_guard lock(mutex_);
    warnings_.push_back(message);
    changed_.notify_all();
  }

  /// False when that does not happen in a generous time.
  bool wait_for_all() {
    return wait([this] { return delivered_.size() == release_.map->piece_count(); });
  }
  bool wait_for_warnings(std::size_t count) {
    return wait([this, count] { return warnings_.size() >= count; });
  }

  [[nodiscard]] std::vector<std::string> warnings() const {
    const std::lock_guard lock(mutex_);
    return warnings_;
  }
  [[nodiscard]] std::size_t delivered_count() const {
    const std::lock_guard lock(mutex_);
    return delivered_.size();
  }
  /// Pieces that are claimed and neither completed nor released.
  [[nodiscard]] std::uint64_t kept_count() const {
    const std::lock_guard lock(mutex_);
    return claims_;
  }
  [[nodiscard]] Files delivered_files() const {
    Files files;
    for (std::size_t i = 0; i < content_.size(); ++i)
      if (!release_.layout.files[i].pad) files[release_.layout.files[i].path] = content_[i];
    return files;
  }

 private:
  template <typename Condition>
  bool wait(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), condition);
  }

  const Release& release_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::uint64_t> missing_;
  std::set<std::uint64_t> delivered_;
  std::uint64_t claims_ = 0;
  std::vector<std::string> content_;
  std::vector<std::string> warnings_;
};

using Warnings = std::vector<std::string>;

/// False when that does not happen in a generous time.
inline bool wait_until(const std::function<bool()>& condition) {
  for (int i = 0; i < 4000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return condition();
}

inline fetch::MirrorOptions quick_options() {
  fetch::MirrorOptions options;
  options.connect_timeout = std::chrono::seconds(2);
  options.stall_timeout = std::chrono::seconds(1);
  options.failures_max = 3;
  options.pause_min = options.pause_max = options.ask_again_after = std::chrono::milliseconds(5);
  return options;
}

inline fetch::MirrorSource mirror(const std::string& url, bool trusted = true) { return {{url, trusted}}; }

/// A running pool and its results. The pool is destroyed before the scheduler.
struct Fetching {
  Customer scheduler;
  std::unique_ptr<fetch::MirrorPool> pool;

  Fetching(const Release& release, const std::vector<fetch::MirrorSource>& mirrors,
           const fetch::MirrorOptions& options = quick_options())
      : scheduler(release),
        pool(std::make_unique<fetch::MirrorPool>(release.layout, *release.map, *release.verifier, mirrors,
                                                 options, scheduler)) {}

  [[nodiscard]] std::vector<std::string> warnings_after(std::size_t count) {
    CHECK(scheduler.wait_for_warnings(count));
    pool.reset();
    CHECK(scheduler.kept_count() == 0);
    return scheduler.warnings();
  }

  void check_complete(const Release& release) {
    CHECK(scheduler.wait_for_all());
    pool.reset();
    CHECK((scheduler.delivered_files() == release.files));
    CHECK(scheduler.kept_count() == 0);
  }
};

}  // namespace sluice::tests
