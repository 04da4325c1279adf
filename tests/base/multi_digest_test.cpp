#include "base/multi_digest.h"

#include <doctest/doctest.h>

#include <atomic>
#include <random>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "tests/support/as_nobody.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"

using namespace sluice::base;
using sluice::tests::TempDir;
namespace tests = sluice::tests;
namespace fs = std::filesystem;

namespace {

using Content = std::vector<std::byte>;

/// One file of a random stream, with what must be found out about it.
struct Planned {
  DigestInput input;
  ReadState state = ReadState::complete;
  Content on_disk;  ///< zeros for a pad
};

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}

  std::size_t below(std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(engine_);
  }

  Content bytes(std::size_t count) {
    Content bytes(count);
    for (std::byte& b : bytes) b = static_cast<std::byte>(engine_());
    return bytes;
  }

  /// Sizes around the borders of blocks are the interesting ones.
  std::size_t size() {
    constexpr std::size_t kSizes[] = {0, 1, 16383, 16384, 16385, 32768, 65536, 65537};
    return below(2) == 0 ? kSizes[below(std::size(kSizes))] : below(200000);
  }

 private:
  std::mt19937 engine_;
};

std::vector<Planned> plan(Random& random, const TempDir& dir) {
  std::vector<Planned> files(1 + random.below(8));
  for (std::size_t i = 0; i < files.size(); ++i) {
    Planned& file = files[i];
    file.on_disk = random.bytes(random.size());
    file.input.length_bytes = file.on_disk.size();
    file.input.path = dir / std::to_string(i);
    switch (random.below(9)) {
      case 0:  // pad
        file.input.path.clear();
        std::ranges::fill(file.on_disk, std::byte{0});
        continue;
      case 1: file.state = ReadState::missing; break;
      case 2:  // short
        file.input.length_bytes += 1 + random.below(50000);
        file.state = ReadState::wrong_size;
        break;
      case 3:  // long
        file.input.length_bytes = random.below(file.on_disk.size() + 1);
        if (file.input.length_bytes != file.on_disk.size()) file.state = ReadState::wrong_size;
        break;
      case 4:
        file.state = ReadState::missing;
        file.input.skip = true;
        break;
      case 5:
        fs::create_directory(file.input.path);
        file.state = ReadState::unreadable;
        continue;
      case 6:  // a range, at times beyond the end
        file.input.range_offset_bytes = random.below(file.on_disk.size() + 100);
        file.input.length_bytes = random.size();
        if (*file.input.range_offset_bytes + file.input.length_bytes > file.on_disk.size())
          file.state = ReadState::wrong_size;
        if (file.input.length_bytes == 0) file.state = ReadState::complete;
        break;
      default: break;
    }
    if (file.state != ReadState::missing || file.input.skip) write_file(file.input.path, file.on_disk);
  }
  return files;
}

/// The bytes that count: on disk and within the expected length.
Bytes known_bytes(const Planned& file) {
  if (file.state == ReadState::missing || file.state == ReadState::unreadable) return {};
  const std::size_t begin = file.input.range_offset_bytes.value_or(0);
  const Bytes rest = Bytes(file.on_disk).subspan(std::min(begin, file.on_disk.size()));
  return rest.first(std::min<std::size_t>(rest.size(), file.input.length_bytes));
}

std::vector<std::optional<Sha1>> naive_pieces(const std::vector<Planned>& files, std::size_t piece_bytes) {
  std::vector<std::optional<std::byte>> stream;
  for (const Planned& file : files) {
    const Bytes known = known_bytes(file);
    stream.insert(stream.end(), known.begin(), known.end());
    stream.resize(stream.size() + file.input.length_bytes - known.size());
  }
  std::vector<std::optional<Sha1>> pieces;
  for (std::size_t start = 0; start < stream.size(); start += piece_bytes) {
    const std::size_t end = std::min(stream.size(), start + piece_bytes);
    Content piece;
    for (std::size_t i = start; i < end && stream[i]; ++i) piece.push_back(*stream[i]);
    pieces.push_back(piece.size() == end - start ? std::optional(hash<Sha1>(piece)) : std::nullopt);
  }
  return pieces;
}

std::vector<Sha256> naive_leaves(Bytes bytes) {
  LeafHasher hasher;
  hasher.update(bytes);
  return hasher.final();
}

void check_file(const Planned& plan, const FileDigests& found, const DigestWants& wants) {
  CHECK(found.state == plan.state);
  if (plan.input.path.empty()) return;
  const bool readable = plan.state == ReadState::complete || plan.state == ReadState::wrong_size;
  CHECK(found.problem.empty() == (readable || plan.input.skip));
  CHECK(found.md5.has_value() == (wants.md5 && readable));
  CHECK(found.sha256.has_value() == (wants.sha256 && readable));
  if (!readable) return;
  CHECK(found.found_bytes ==
        (plan.input.range_offset_bytes ? known_bytes(plan).size() : plan.on_disk.size()));
  const Bytes known = known_bytes(plan);
  if (wants.md5) CHECK(found.md5 == hash<Md5>(known));
  if (wants.sha256) CHECK(found.sha256 == hash<Sha256>(known));
  const auto leaves = wants.leaves ? naive_leaves(known) : std::vector<Sha256>{};
  const bool layered = wants.blocks_per_node > 1 &&
                       divide_up(plan.input.length_bytes, kMerkleBlockBytes) > wants.blocks_per_node;
  CHECK(found.leaves == (layered ? std::vector<Sha256>{} : leaves));
  CHECK(found.layer == (layered ? merkle_layer(leaves, wants.blocks_per_node) : std::vector<Sha256>{}));
}

class CountingProgress final : public Progress {
 public:
  void begin(std::string_view, std::uint64_t) override {}
  void advance(std::uint64_t bytes) override { bytes_ += bytes; }
  void warn(std::string_view) override {}
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  std::atomic<std::uint64_t> bytes_{0};
};

}  // namespace

TEST_CASE("one read gives every digest of random file lists, with any threads and memory, cached or direct") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const TempDir dir;
    const auto files = plan(random, dir);
    std::vector<DigestInput> inputs;
    std::uint64_t known = 0;
    for (const Planned& file : files) {
      inputs.push_back(file.input);
      if (!file.input.path.empty()) known += known_bytes(file).size();
    }
    DigestWants wants{random.below(2) == 0, random.below(2) == 0, random.below(3) > 0};
    wants.blocks_per_node = std::uint64_t{1} << random.below(4);
    if (random.below(4) > 0)
      wants.v1_piece_bytes = random.below(2) == 0 ? 16384u << random.below(4) : 1 + random.below(50000);
    DigestOptions options;
    options.thread_count = 1 + static_cast<unsigned>(random.below(4));
    options.memory_bytes = random.below(2) == 0 ? 0 : random.below(400000);
    options.direct = random.below(3) == 0;
    options.drop_cache = random.below(2) == 0;
    CountingProgress progress;
    const auto found = compute_digests(inputs, wants, options, progress, {});
    REQUIRE(found.files.size() == files.size());
    for (std::size_t i = 0; i < files.size(); ++i) check_file(files[i], found.files[i], wants);
    CHECK(found.v1_pieces == (wants.v1_piece_bytes == 0 ? std::vector<std::optional<Sha1>>{}
                                                        : naive_pieces(files, wants.v1_piece_bytes)));
    CHECK(progress.bytes() == known);
  }
}

TEST_CASE("a file that changes while it is read is reported as changed") {
  const TempDir dir;
  const Content content(300000);
  write_file(dir / "f", content);

  class Meddler final : public Progress {
   public:
    explicit Meddler(fs::path path) : path_(std::move(path)) {}
    void begin(std::string_view, std::uint64_t) override {}
    void advance(std::uint64_t) override {
      if (!std::exchange(done_, true)) File::open_update(path_).resize(new_bytes);
    }
    void warn(std::string_view) override {}
    std::uint64_t new_bytes = 0;

   private:
    fs::path path_;
    bool done_ = false;
  };

  for (const std::uint64_t new_bytes : {0u, 100000u, 400000u}) {
    write_file(dir / "f", content);
    Meddler meddler(dir / "f");
    meddler.new_bytes = new_bytes;
    const DigestInput input{dir / "f", content.size()};
    const auto found = compute_digests({&input, 1}, {true, true, true, 1, 16384}, {2, 65536}, meddler, {});
    CHECK(found.files[0].state == ReadState::changed);
    // The hashes of pieces that it shares with other files are unknown.
    CHECK(found.v1_pieces == std::vector<std::optional<Sha1>>(divide_up(content.size(), 16384)));
  }
}

TEST_CASE(
    "large files have the same digests whether units are hashed together, separately, in pairs or alone") {
  Random random(3);
  const TempDir dir;
  const std::size_t lengths[] = {9000001, 100, 3u << 20, 5500000};
  std::vector<DigestInput> inputs;
  std::vector<Planned> files;
  for (const std::size_t length : lengths) {
    Planned& file = files.emplace_back();
    file.on_disk = random.bytes(length);
    file.input = {dir / std::to_string(files.size()), length};
    write_file(file.input.path, file.on_disk);
    inputs.push_back(file.input);
  }
  for (const bool chains : {false, true}) {
    for (const bool direct : {false, true}) {
      for (const unsigned threads : {1u, 2u, 3u}) {
        CAPTURE(threads);
        DigestWants wants{chains, chains, true, 8, 65536 * 3};
        DigestOptions options;
        options.thread_count = threads;
        options.direct = direct;
        NoProgress progress;
        const auto found = compute_digests(inputs, wants, options, progress, {});
        for (std::size_t i = 0; i < files.size(); ++i) check_file(files[i], found.files[i], wants);
        CHECK(found.v1_pieces == naive_pieces(files, wants.v1_piece_bytes));
        wants.leaves = false;
        CHECK(compute_digests(inputs, wants, options, progress, {}).v1_pieces == found.v1_pieces);
      }
    }
  }
}

TEST_CASE("a file that may not be opened is unreadable, and its neighbours still get digests") {
  const TempDir dir;
  fs::permissions(dir.path(), fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec);
  fs::create_directory(dir / "closed");
  fs::permissions(dir / "closed", fs::perms::owner_all);
  const Content content(40000, std::byte{7});
  for (const char* name : {"a", "b", "c"}) write_file(dir / name, content);
  write_file(dir / "closed/d", content);
  fs::permissions(dir / "b", fs::perms::none);
  const DigestInput inputs[] = {
      {dir / "a", 40000}, {dir / "b", 40000}, {dir / "c", 40000}, {dir / "closed/d", 40000}};
  NoProgress progress;
  const auto found = [&] {
    const tests::AsNobody nobody;
    return compute_digests(inputs, {true, false, false, 1, 20000}, {}, progress, {});
  }();
  CHECK(found.files[0].state == ReadState::complete);
  CHECK(found.files[1].state == ReadState::unreadable);
  CHECK(found.files[1].problem.find("Permission denied") != std::string::npos);
  CHECK(found.files[2].md5 == hash<Md5>(content));
  CHECK(found.files[3].state == ReadState::unreadable);  // not missing: nobody can know
  const auto piece = hash<Sha1>(Bytes(content).first(20000));
  const std::vector<std::optional<Sha1>> expected = {piece, piece, {}, {}, piece, piece, {}, {}};
  CHECK(found.v1_pieces == expected);
}

TEST_CASE("compute_digests stops when asked") {
  const TempDir dir;
  write_file(dir / "f", Content(100000));
  const DigestInput input{dir / "f", 100000};
  std::stop_source stop;
  stop.request_stop();
  NoProgress progress;
  CHECK_ERROR(compute_digests({&input, 1}, {true}, {}, progress, stop.get_token()), ErrorKind::interrupted,
              "interrupted");
}
