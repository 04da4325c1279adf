#include "tests/fetch/fetch_support.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <random>
#include <stdexcept>

namespace sluice::tests {

namespace fs = std::filesystem;

std::string noise(std::uint64_t seed, std::size_t length_bytes) {
  std::mt19937_64 generator(seed);
  std::string bytes(length_bytes, '\0');
  for (std::size_t at = 0; at < length_bytes; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = generator();
    std::memcpy(bytes.data() + at, &word, std::min(sizeof word, length_bytes - at));
  }
  return bytes;
}

void write_text(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream out(path, std::ios::binary);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  if (!out) throw std::runtime_error("cannot write " + path.string());
}

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_files(const fs::path& folder, const Files& files) {
  for (const auto& [path, content] : files) write_text(folder / path, content);
}

Files read_files(const fs::path& folder) {
  Files files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[entry.path().lexically_relative(folder).string()] = read_text(entry.path());
  return files;
}

Files sample_files() {
  return {{"consolidated.00.pth", noise(1, 700'001)},
          {"params.json", "{\"dim\": 64}\n"},
          {"empty", ""},
          {"tokenizer/tokenizer.model", noise(2, 40'000)},
          {"tokenizer.txt", noise(3, 16384)}};
}

Files large_files() {
  return {{"a.bin", noise(11, 20'000'003)}, {"b.bin", noise(12, 10'000'000)}, {"c", "c"}};
}

fetch::PublishResult publish_folder(const fs::path& folder, bool v1_only, std::uint64_t piece_bytes) {
  fetch::PublishRequest request;
  request.folder = folder;
  request.v1_only = v1_only;
  request.piece_bytes = piece_bytes;
  request.overwrite = true;  // tests publish a folder as v1 and as hybrid in turn
  base::NoProgress progress;
  return fetch::publish(request, progress, {});
}

namespace {

class PortObserver final : public fetch::SeedObserver {
 public:
  PortObserver(std::function<void(int)> on_port, std::atomic<std::uint64_t>& uploaded_bytes)
      : on_port_(std::move(on_port)), uploaded_bytes_(uploaded_bytes) {}
  void on_listening(int port) override { on_port_(port); }
  void on_status(std::uint64_t uploaded_bytes, std::uint64_t, unsigned) override {
    uploaded_bytes_ = uploaded_bytes;
  }
  void on_warning(std::string_view message) override { MESSAGE("seeder: " << std::string(message)); }

 private:
  std::function<void(int)> on_port_;
  std::atomic<std::uint64_t>& uploaded_bytes_;
};

}  // namespace

SeedThread::SeedThread(const fs::path& torrent, const fs::path& folder, std::uint64_t limit_up_bytes_per_s,
                       int port) {
  fetch::SeedRequest request;
  request.torrent = torrent;
  request.folder = folder;
  request.listen_address = "127.0.0.1";
  request.dht = false;
  request.lsd = false;
  request.port = port;
  request.limit_up_bytes_per_s = limit_up_bytes_per_s;
  thread_ = std::jthread([this, request](const std::stop_token& stop) {
    PortObserver observer(
        [this](int bound_port) {
          const std::lock_guard lock(mutex_);
          port_ = bound_port;
          changed_.notify_all();
        },
        uploaded_bytes_);
    try {
      fetch::seed(request, observer, stop);
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex_);
      problem_ = error.what();
      changed_.notify_all();
    }
  });
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::seconds(10), [this] { return port_ != 0 || !problem_.empty(); });
  if (port_ == 0) throw std::runtime_error("the seeder does not listen: " + problem_);
}

SeedThread::~SeedThread() = default;

void RecordingObserver::on_status(const fetch::FetchStatus& status) {
  if (status.phase == "fetching") {
    went_backwards = went_backwards || status.done_bytes < done_bytes;
    done_bytes = status.done_bytes;
  }
  if (hook) hook(status);
}

fetch::FetchRequest make_request(const std::string& source, const fs::path& output,
                                 std::vector<std::string> peers) {
  fetch::FetchRequest request;
  request.source = source;
  request.output_folder = output;
  request.peers = std::move(peers);
  request.dht = false;
  request.lsd = false;
  request.timeout_s = 20;
  request.worker_command = {SLUICE_FETCH_WORKER};
  return request;
}

}  // namespace sluice::tests
