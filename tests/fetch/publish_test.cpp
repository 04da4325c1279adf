#include <doctest/doctest.h>
#include <sys/stat.h>

#include <libtorrent/torrent_info.hpp>

#include "base/hasher.h"
#include "base/merkle.h"
#include "fetch/torrent/info_text.h"
#include "fetch/torrent/torrent_file.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/lt_support.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;
namespace fs = std::filesystem;

namespace {

fetch::PublishResult publish(const fetch::PublishRequest& request) {
  base::NoProgress progress;
  return fetch::publish(request, progress, {});
}

}  // namespace

TEST_CASE("publishing is deterministic and writes the files beside the folder") {
  const TempDir one;
  const TempDir two;
  write_files(one / "model", sample_files());
  write_files(two / "model", sample_files());
  write_text(two / "model/.sluice/own", "is no part of the release");
  fs::last_write_time(two / "model/params.json", fs::file_time_type::min());
  const auto a = publish_folder(one / "model");
  fetch::PublishRequest request;
  request.folder = two / "model/";  // another spelling
  request.thread_count = 2;
  request.piece_bytes = 16384;
  const auto b = publish(request);
  CHECK(a.torrent == one / "model.torrent");
  CHECK(a.manifest_path == one / "model.manifest.json");
  for (const char* name : {"model.torrent", "model.manifest.json", "model.SHA256SUMS"})
    CHECK_MESSAGE((read_text(one / name) == read_text(two / name)), name);
  CHECK(a.magnet == b.magnet);
  CHECK(read_files(one / "model").size() == sample_files().size());
}

TEST_CASE("modes, times and the order in which files were made do not show") {
  const TempDir one;
  const TempDir two;
  write_files(one / "model", sample_files());
  const Files files = sample_files();
  for (auto it = files.rbegin(); it != files.rend(); ++it) {
    write_files(two / "model", {*it});
    fs::permissions(two / "model" / it->first, fs::perms::owner_all);
    fs::last_write_time(two / "model" / it->first, fs::file_time_type::min());
  }
  for (const bool v1_only : {false, true}) {
    const auto a = publish_folder(one / "model", v1_only);
    const auto b = publish_folder(two / "model", v1_only);
    CHECK(a.magnet == b.magnet);
    CHECK((read_text(a.torrent) == read_text(b.torrent)));
    CHECK(read_text(a.torrent).find("creation date") == std::string::npos);
    CHECK(read_text(a.torrent).find("4:attr1:x") == std::string::npos);
  }
}

TEST_CASE("pieces grow with the release, up to 16 MiB") {
  constexpr std::uint64_t kMiB = 1 << 20;
  constexpr std::uint64_t kGB = 1'000'000'000;
  CHECK(fetch::choose_piece_bytes(1) == 16384);
  CHECK(fetch::choose_piece_bytes(28'000'000) == 16384);
  CHECK(fetch::choose_piece_bytes(87 * kGB) == 4 * kMiB);
  CHECK(fetch::choose_piece_bytes(100 * kGB) == 4 * kMiB);
  CHECK(fetch::choose_piece_bytes(200 * kGB) == 8 * kMiB);
  CHECK(fetch::choose_piece_bytes(300 * kGB) == 16 * kMiB);
  CHECK(fetch::choose_piece_bytes(982 * kGB) == 16 * kMiB);
}

TEST_CASE("piece layers are there in every size of pieces") {
  const TempDir dir;
  const std::string content = noise(7, 300'000);
  write_files(dir / "m", {{"large", content}, {"one piece", noise(8, 65'536)}, {"tiny", "x"}});
  base::LeafHasher hasher;
  hasher.update(base::as_bytes(content));
  const auto leaves = hasher.final();
  for (const std::uint64_t piece_bytes : {16384, 65536, 131072, 524288}) {
    CAPTURE(piece_bytes);
    const auto published = publish_folder(dir / "m", false, piece_bytes);
    for (const auto& file : fetch::read_torrent(published.torrent).files) {
      if (file.pad) continue;
      CHECK(file.piece_layer.empty() == (file.length_bytes <= piece_bytes));
      if (file.path != "large") continue;
      CHECK((file.root == base::merkle_root(leaves)));
      if (!file.piece_layer.empty())
        CHECK((file.piece_layer == base::merkle_layer(leaves, piece_bytes / 16384)));
    }
  }
}

TEST_CASE("libtorrent reads what is published, with the same hashes") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  for (const bool v1_only : {false, true}) {
    const auto published = publish_folder(dir / "model", v1_only);
    const lt::torrent_info info(published.torrent.string());
    const auto& hashes = info.info_hashes();
    CHECK((hashes.v1.to_string() == base::as_text(published.layout.infohash_v1->bytes)));
    CHECK(hashes.has_v2() == !v1_only);
    if (!v1_only) CHECK((hashes.v2.to_string() == base::as_text(published.layout.infohash_v2->bytes)));
    CHECK(info.v2() == !v1_only);
    if (!v1_only) CHECK(info.v2_piece_hashes_verified());
    CHECK(static_cast<std::size_t>(info.num_pieces()) == published.layout.v1_pieces.size());
  }
}

TEST_CASE("a hybrid torrent has the hashes that libtorrent computes for the same folder") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  const auto published = publish_folder(dir / "model");
  const auto theirs = fetch::parse_torrent(make_lt_torrent(dir / "model", LtVersion::hybrid), "theirs");
  std::map<std::string, format::ReleaseFile> by_path;
  for (const auto& file : theirs.files)
    if (!file.pad) by_path[file.path] = file;
  std::size_t compared = 0;
  for (const auto& file : published.layout.files) {
    if (file.pad) continue;
    CHECK((by_path.at(file.path).root == file.root));
    CHECK((by_path.at(file.path).piece_layer == file.piece_layer));
    ++compared;
  }
  CHECK(compared == sample_files().size());
  CHECK((theirs.v1_pieces == published.layout.v1_pieces));
}

TEST_CASE("the manifest and the sums name every file with its digests") {
  const TempDir dir;
  write_files(dir / "Model V1", sample_files());
  const auto published = publish_folder(dir / "Model V1");
  const auto manifest = format::read_manifest(published.manifest_path);
  CHECK(manifest.name == "model-v1");
  CHECK(manifest.torrent_name == "Model V1");
  CHECK((manifest.infohash_v1 == published.layout.infohash_v1));
  CHECK((manifest.infohash_v2 == published.layout.infohash_v2));
  REQUIRE(manifest.files.size() == sample_files().size());
  for (const auto& [path, content] : sample_files()) {
    const auto* file = manifest.find_file(path);
    REQUIRE(file != nullptr);
    CHECK(file->length_bytes == content.size());
    CHECK((file->sha256 == base::hash<base::Sha256>(base::as_bytes(content))));
    CHECK_FALSE(file->md5);  // as slow as all the others together, and proves nothing more
    CHECK(file->root.has_value() == !content.empty());
  }
  const auto sums = format::parse_sums(read_text(dir / "Model V1.SHA256SUMS")).files;
  CHECK(sums.size() == sample_files().size());
}

TEST_CASE("the magnet link has all that the request gave") {
  const TempDir dir;
  write_files(dir / "model", {{"a", "x"}});
  fetch::PublishRequest request;
  request.folder = dir / "model";
  request.trackers = {"udp://tracker.example:1337/announce", "https://b.example/announce"};
  request.web_seeds = {"https://cdn.example/files/"};
  const auto published = publish(request);
  const auto magnet = fetch::parse_magnet(published.magnet);
  CHECK((magnet.infohash_v1 == published.layout.infohash_v1));
  CHECK((magnet.infohash_v2 == published.layout.infohash_v2));
  CHECK(magnet.name == "model");
  CHECK((magnet.trackers == request.trackers));
  CHECK((magnet.web_seeds == request.web_seeds));
  const auto torrent = fetch::parse_torrent_file(read_text(published.torrent), "x");
  CHECK((torrent.trackers == request.trackers));
  CHECK((torrent.web_seeds == request.web_seeds));
}

TEST_CASE("the files stand in the order of the BEP 52 tree, each at the start of a piece") {
  const TempDir dir;
  write_files(dir / "m", {{"a.txt", "1"}, {"a/z", "22"}, {"a-b", "333"}, {"B", "4444"}});
  const auto layout = publish_folder(dir / "m").layout;
  std::vector<std::string> order;
  std::uint64_t offset_bytes = 0;
  for (const auto& file : layout.files) {
    if (!file.pad) {
      order.push_back(file.path);
      CHECK(offset_bytes % layout.piece_bytes == 0);
    }
    offset_bytes += file.length_bytes;
  }
  CHECK((order == std::vector<std::string>{"B", "a/z", "a-b", "a.txt"}));
  CHECK_FALSE(layout.files.back().pad);
}

TEST_CASE("what cannot be fetched is not published") {
  const TempDir dir;
  const auto refused = [&](const Files& files, ErrorKind kind, const char* part) {
    fs::remove_all(dir / "m");
    write_files(dir / "m", files);
    CHECK_ERROR(publish_folder(dir / "m"), kind, part);
    CHECK_FALSE(fs::exists(dir / "m.torrent"));
  };
  refused({{"a\nb", "x"}}, ErrorKind::malformed, "unsafe file name");
  refused({{"a\\b", "x"}}, ErrorKind::malformed, "unsafe file name");
  refused({{"\xff", "x"}}, ErrorKind::malformed, "unsafe file name");
  refused({{"Readme", "x"}, {"README", "y"}}, ErrorKind::malformed, "same name");
  refused({{"empty", ""}}, ErrorKind::malformed, "holds no bytes");
  fs::create_symlink("/etc/passwd", dir / "m/link");
  CHECK_ERROR(publish_folder(dir / "m"), ErrorKind::malformed, "m/link: is a symbolic link");
  fs::remove(dir / "m/link");
  REQUIRE(::mkfifo((dir / "m/pipe").c_str(), 0600) == 0);
  CHECK_ERROR(publish_folder(dir / "m"), ErrorKind::malformed, "m/pipe: is not a regular file");
  CHECK_ERROR(publish_folder(dir / "none"), ErrorKind::io, "does not exist");
}

TEST_CASE("a name that is not in normal form C is not published, but is fetched") {
  const TempDir dir;
  write_files(dir / "m", {{"caf\x65\xcc\x81", "x"}});  // e and a combining acute accent
  CHECK_ERROR(publish_folder(dir / "m"), ErrorKind::malformed, "is not in Unicode's normal form C");
  write_text(dir / "m.torrent", make_lt_torrent(dir / "m", LtVersion::hybrid));
  CHECK(fetch::read_torrent(dir / "m.torrent").files.front().path == "caf\x65\xcc\x81");
  write_files(dir / "n", {{"caf\xc3\xa9", "x"}});
  CHECK(publish_folder(dir / "n").layout.files.front().path == "caf\xc3\xa9");
}

TEST_CASE("a request that makes no sense is refused") {
  const TempDir dir;
  write_files(dir / "m", {{"a", "x"}});
  fetch::PublishRequest request;
  request.folder = dir / "m";
  request.piece_bytes = 20000;
  CHECK_ERROR(publish(request), ErrorKind::usage, "piece size 20000");
  request.piece_bytes = 64 << 20;
  CHECK_ERROR(publish(request), ErrorKind::usage, "piece size 67108864");
  fs::resize_file(dir / "m/a", std::uint64_t{40} << 30);  // sparse
  request.piece_bytes = 16384;
  CHECK_ERROR(publish(request), ErrorKind::usage,
              "gives 2621440 pieces, which many clients cannot load; expected at least 2097152");
  fs::resize_file(dir / "m/a", 1);
  request.piece_bytes = 0;
  request.torrent = dir / "m/inside.torrent";
  CHECK_ERROR(publish(request), ErrorKind::usage, "lies inside the folder");
  request.torrent = dir / "elsewhere.torrent";
  request.trackers = {"wss://a.example:1"};
  CHECK_ERROR(publish(request), ErrorKind::usage, "tracker 'wss://a.example:1'");
  request.trackers = {};
  request.web_seeds = {"ftp://a.example/"};
  CHECK_ERROR(publish(request), ErrorKind::usage, "web seed 'ftp://a.example/'");
  request.web_seeds = {};
  CHECK(publish(request).manifest_path == dir / "elsewhere.manifest.json");
}

TEST_CASE("publishing again changes nothing, and other files are replaced only when asked for") {
  const TempDir dir;
  write_files(dir / "m", {{"a", noise(1, 40'000)}});
  fetch::PublishRequest request;
  request.folder = dir / "m";
  request.leaves = true;
  const auto first = publish(request);
  const auto written = fs::last_write_time(first.torrent);
  CHECK(publish(request).magnet == first.magnet);
  CHECK((fs::last_write_time(first.torrent) == written));
  request.trackers = {"udp://tracker.example:1337/announce"};
  const std::string torrent = read_text(first.torrent);
  CHECK_ERROR(publish(request), ErrorKind::usage, "says something else; --overwrite replaces it");
  CHECK(read_text(first.torrent) == torrent);
  request.overwrite = true;
  CHECK(read_text(publish(request).torrent) != torrent);

  // Before a byte is read, only the kind and the name of what is there are known.
  request.overwrite = false;
  CHECK(fetch::choose_outputs(request).leaves == dir / "m.leaves");
  write_text(dir / "m.leaves", "Dear Lily");
  CHECK_ERROR(fetch::choose_outputs(request), ErrorKind::usage,
              "m.leaves: is there already and is not a leaf file");
  write_text(dir / "m.SHA256SUMS", "Dear Lily");
  CHECK_ERROR(fetch::choose_outputs(request), ErrorKind::usage, "is not a checksum list");
  write_files(dir / "n", {{"a", "x"}});
  request.folder = dir / "n";
  request.torrent = dir / "m.torrent";
  CHECK_ERROR(fetch::choose_outputs(request), ErrorKind::usage, "is a torrent of another release");
}

TEST_CASE("publishing can be interrupted") {
  const TempDir dir;
  write_files(dir / "m", sample_files());
  fetch::PublishRequest request;
  request.folder = dir / "m";
  std::stop_source stop;
  stop.request_stop();
  base::NoProgress progress;
  CHECK_ERROR(fetch::publish(request, progress, stop.get_token()), ErrorKind::interrupted, "");
  CHECK_FALSE(fs::exists(dir / "m.torrent"));
}
