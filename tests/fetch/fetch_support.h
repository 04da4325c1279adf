#pragma once
// Releases, seeders and fetches on loopback for the tests of fetch.

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fetch/fetch.h"
#include "tests/support/temp_dir.h"

namespace sluice::tests {

/// `length_bytes` of bytes that look random and depend only on `seed`.
std::string noise(std::uint64_t seed, std::size_t length_bytes);

void write_text(const std::filesystem::path& path, std::string_view text);
std::string read_text(const std::filesystem::path& path);

/// Path below the folder -> content.
using Files = std::map<std::string, std::string>;
void write_files(const std::filesystem::path& folder, const Files& files);
Files read_files(const std::filesystem::path& folder);

/// A small release of several files: large, tiny, empty, in a sub-folder.
Files sample_files();

/// A resumed fetch looks at 16 pieces at random; those of the tests have 16 KiB.
constexpr std::uint64_t kSampledBytesMax = 16 * 16384;

/// 30 MB: large enough to be interrupted at kSlowBytesPerS.
Files large_files();
constexpr std::uint64_t kSlowBytesPerS = 15'000'000;

/// Publishes without trackers.
fetch::PublishResult publish_folder(const std::filesystem::path& folder, bool v1_only = false,
                                    std::uint64_t piece_bytes = 16384);

/// seed() in a thread of this process, on a free port of 127.0.0.1.
class SeedThread {
 public:
  SeedThread(const std::filesystem::path& torrent, const std::filesystem::path& folder,
             std::uint64_t limit_up_bytes_per_s = 0, int port = 0);
  ~SeedThread();
  SeedThread(const SeedThread&) = delete;
  SeedThread& operator=(const SeedThread&) = delete;

  [[nodiscard]] int port() const { return port_; }
  [[nodiscard]] std::string peer() const { return "127.0.0.1:" + std::to_string(port_); }
  /// Payload sent so far; updated once per second.
  [[nodiscard]] std::uint64_t uploaded_bytes() const { return uploaded_bytes_; }

 private:
  std::atomic<std::uint64_t> uploaded_bytes_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  int port_ = 0;
  std::string problem_;
  std::jthread thread_;
};

/// Remembers the reports, and checks that progress never runs backwards.
class RecordingObserver : public fetch::FetchObserver {
 public:
  void on_layout(const format::ReleaseLayout& layout) override { layouts.push_back(layout); }
  void on_status(const fetch::FetchStatus& status) override;
  void on_warning(std::string_view message) override { warnings.emplace_back(message); }

  /// Called at each status; may stop the fetch.
  std::function<void(const fetch::FetchStatus&)> hook;
  std::vector<format::ReleaseLayout> layouts;
  std::vector<std::string> warnings;
  std::uint64_t done_bytes = 0;
  bool went_backwards = false;
};

/// A fetch that asks nobody but the given peers.
fetch::FetchRequest make_request(const std::string& source, const std::filesystem::path& output,
                                 std::vector<std::string> peers);

}  // namespace sluice::tests
