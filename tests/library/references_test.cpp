#include <doctest/doctest.h>

#include "tests/library/library_fixture.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::library;
using base::ErrorKind;
using tests::LibraryFixture;
using tests::sums_line;
using tests::write_text;

namespace {

/// downloads/release/{weights.bin,notes.txt}
struct ReleaseFolder : LibraryFixture {
  ReleaseFolder() {
    write_text(release / "weights.bin", "weights");
    write_text(release / "notes.txt", "notes");
  }

  [[nodiscard]] References find(const NamedReferences& named = {}) const {
    return find_references(release, named, context);
  }
  [[nodiscard]] fetch::PublishResult publish(const std::filesystem::path& torrent) const {
    fetch::PublishRequest request;
    request.folder = release;
    request.torrent = torrent;
    base::NoProgress progress;
    return fetch::publish(request, progress, {});
  }

  const std::filesystem::path downloads = dir / "downloads";
  const std::filesystem::path release = downloads / "release";
};

}  // namespace

TEST_CASE("a release without references has none, and its folder is known all the same") {
  const ReleaseFolder user;
  const auto found = user.find();
  CHECK(found.empty());
  CHECK(found.folder == user.release);
  CHECK(found.release_name().empty());
}

TEST_CASE("checksum lists are found in the folder, beside it and above it, with names that lead into it") {
  const ReleaseFolder user;
  SUBCASE("in the folder") { write_text(user.release / "SHA256SUMS", sums_line("weights", "weights.bin")); }
  SUBCASE("beside, of the release's name") {
    write_text(user.downloads / "release.SHA256SUMS", sums_line("weights", "weights.bin"));
  }
  SUBCASE("beside, for all that lies there") {
    write_text(user.downloads / "SHA256SUMS",
               sums_line("weights", "release/weights.bin") + sums_line("x", "other/weights.bin"));
  }
  SUBCASE("above") {
    write_text(user.dir / "SHA256SUMS", sums_line("weights", "downloads/release/weights.bin"));
  }
  const auto found = user.find();
  REQUIRE(found.expected.manifest);
  REQUIRE(found.expected.manifest->files.size() == 1);
  CHECK(found.expected.manifest->files[0].path == "weights.bin");
  CHECK(found.found_in.size() == 1);
  REQUIRE(found.signatures.size() == 1);
  CHECK(found.signatures[0].state == SignatureState::none);
}

TEST_CASE("a checksum list of other files is no reference, and its signature does not count") {
  const ReleaseFolder user;
  write_text(user.downloads / "SHA256SUMS", sums_line("x", "other/weights.bin"));
  const auto found = user.find();
  CHECK(found.empty());
  CHECK(found.signatures.empty());
}

TEST_CASE("torrent and manifest are found beside the folder, and lists are not looked for then") {
  const ReleaseFolder user;
  write_text(user.release / "SHA256SUMS", sums_line("weights", "weights.bin"));
  const auto published = user.publish(user.downloads / "release.torrent");
  const auto found = user.find();
  REQUIRE(found.expected.layout);
  CHECK(found.torrent == published.torrent);
  REQUIRE(found.expected.manifest);
  CHECK(found.found_in ==
        std::vector<std::string>{published.torrent.string(), published.manifest_path.string()});
  CHECK(found.infohash_v1() == base::to_hex(published.layout.infohash_v1.value()));
  CHECK(found.infohash_v2() == base::to_hex(published.layout.infohash_v2.value()));
}

TEST_CASE("the torrent that fetch saved has precedence over one beside the folder") {
  const ReleaseFolder user;
  const auto beside = user.publish(user.downloads / "release.torrent");
  std::filesystem::create_directories(user.downloads / ".sluice");
  const auto saved = user.downloads / ".sluice" / "saved.torrent";
  std::filesystem::copy_file(beside.torrent, saved);
  CHECK(user.find().torrent == saved);
}

TEST_CASE("a manifest that names another torrent is left out") {
  ReleaseFolder user;
  const auto published = user.publish(user.downloads / "release.torrent");
  const std::string digits(40, '7');
  write_text(published.manifest_path,
             R"({"manifest": 1, "name": "release", "torrent": {"infohash_v1": ")" + digits + "\"}}");
  user.add_release("release", R"("torrent": {"infohash_v1": ")" + digits + "\"}");
  const auto found = user.find();
  CHECK(found.expected.layout);
  CHECK_FALSE(found.expected.manifest);
  REQUIRE(found.signatures.size() == 1);  // the torrent's own
}

TEST_CASE("a known release of the folder's name is a reference") {
  const ReleaseFolder user;
  user.add_release("release", R"("files": [{"path": "weights.bin", "bytes": 7}])");
  const auto found = user.find();
  CHECK(found.release_name() == "release");
  CHECK(found.found_in == std::vector{(user.folders.data / "manifests" / "release.json").string()});
}

TEST_CASE("named references are the only ones") {
  const ReleaseFolder user;
  user.add_release("release", R"("files": [{"path": "weights.bin", "bytes": 7}])");
  const auto list = user.dir / "list";
  write_text(list, sums_line("notes", "notes.txt"));
  NamedReferences named;
  named.sums = list.string();
  const auto found = user.find(named);
  CHECK(found.found_in == std::vector{list.string()});
  REQUIRE(found.expected.manifest);
  CHECK(found.expected.manifest->files.size() == 1);

  write_text(list, "no digests here\n");
  CHECK_ERROR(user.find(named), ErrorKind::malformed, "holds no line");
  named.sums.clear();
  named.manifest = "unheard-of";
  CHECK_ERROR(user.find(named), ErrorKind::usage, "unheard-of");
}

TEST_CASE("a file inside a release is verified by its entry alone") {
  const ReleaseFolder user;
  write_text(user.release / "SHA256SUMS",
             sums_line("weights", "weights.bin") + sums_line("notes", "notes.txt"));
  const auto found = find_references(user.release / "notes.txt", {}, user.context);
  REQUIRE(found.expected.manifest);
  CHECK(found.expected.only_expected);
  CHECK(found.expected.manifest->files.size() == 1);
  CHECK(found.folder == user.release);
  verify::Options options;
  const auto report = verify_release(found, options, user.context);
  CHECK(report.ok);
  CHECK(report.files.size() == 1);
}

TEST_CASE("reference files inside the folder and their signatures never count as extra files") {
  const ReleaseFolder user;
  write_text(user.release / "SHA256SUMS",
             sums_line("weights", "weights.bin") + sums_line("notes", "notes.txt"));
  const auto key = base::new_secret_key();
  LibraryFixture::sign_file(user.release / "SHA256SUMS", key);
  add_trusted_key("alice", key.public_key(), user.folders);
  verify::Options options;
  options.strict = true;
  CHECK(verify_release(user.find(), options, user.context).ok);
  write_text(user.release / "extra.txt", "extra");
  CHECK_FALSE(verify_release(user.find(), options, user.context).ok);
}

TEST_CASE("with a key, everything must be signed; a signed manifest vouches for its torrent") {
  const ReleaseFolder user;
  const auto published = user.publish(user.downloads / "release.torrent");
  const auto key = base::new_secret_key();
  NamedReferences named;
  named.key = base::to_line(key.public_key());
  CHECK_ERROR(user.find(named), ErrorKind::untrusted, "is not signed");
  LibraryFixture::sign_file(published.manifest_path, key);
  const auto found = user.find(named);
  CHECK(found.expected.layout);
  REQUIRE(found.signatures.size() == 1);
  CHECK(found.signatures[0].state == SignatureState::valid);

  std::filesystem::remove(published.manifest_path);
  CHECK_ERROR(user.find(named), ErrorKind::untrusted, "no signed manifest names its info-hash");
  LibraryFixture::sign_file(published.torrent, key);
  CHECK(user.find(named).signatures[0].file == published.torrent.string());
}

TEST_CASE("damaged leaf hashes beside the torrent are a warning, named ones an error") {
  ReleaseFolder user;
  static_cast<void>(user.publish(user.downloads / "release.torrent"));
  const auto leaves = user.downloads / "release.leaves";
  write_text(leaves, "not leaves");
  CHECK_FALSE(user.find().expected.leaves);
  REQUIRE(user.observer.warnings.size() == 1);
  CHECK(user.observer.warnings[0].find("release.leaves") != std::string::npos);
  NamedReferences named;
  named.torrent = (user.downloads / "release.torrent").string();
  named.leaves = leaves.string();
  CHECK_ERROR(user.find(named), ErrorKind::malformed, "release.leaves");
}

TEST_CASE("lists of checksums are found under every usual name, and those of single files together") {
  const ReleaseFolder user;
  for (const char* name : {"sha256sums.txt", "SHA256SUMS.txt", "sha256sum.txt", "checksums.txt", "CHECKSUM",
                           "CHECKSUM.sha256", "md5sums.txt", "v1_checksums.txt", "release.sha256sum"}) {
    CAPTURE(name);
    const auto list = user.release / name;
    write_text(list, sums_line("weights", "weights.bin"));
    CHECK(user.find().found_in == std::vector{list.string()});
    std::filesystem::remove(list);
  }
  const std::string hex = sums_line("weights", "").substr(0, 64);
  write_text(user.release / "weights.bin.sha256", hex + "\n");
  write_text(user.release / "notes.txt.sha256", sums_line("notes", "notes.txt"));
  write_text(user.release / "sums.cpp", sums_line("x", "x"));  // not the name of a list
  const auto found = user.find();
  REQUIRE(found.expected.manifest);
  CHECK(found.expected.manifest->files.size() == 2);
  CHECK(found.found_in.size() == 2);
  // The list of one file beside it, too.
  CHECK(find_references(user.release / "weights.bin", {}, user.context).expected.manifest->files.size() == 1);
}

TEST_CASE("a list of an archive beside the folder is not taken for a list of the folder's files") {
  const ReleaseFolder user;
  write_text(user.downloads / "release.sha256", sums_line("x", "release.zip"));
  CHECK(user.find().empty());
}

TEST_CASE("a list that cannot be used is named") {
  ReleaseFolder user;
  std::string cause;
  SUBCASE("other digests") {
    write_text(user.release / "SHA512SUMS", std::string(128, 'a') + "  weights.bin\n");
    cause = "SHA512SUMS: has digests that are not compared (SHA-512)";
  }
  SUBCASE("no digests") {
    write_text(user.release / "checksums.txt", "none\n");
    cause = "checksums.txt: holds no line";
  }
  SUBCASE("unsafe names") {
    write_text(user.release / "SHA256SUMS", sums_line("x", "../x"));
    cause = "SHA256SUMS: unsafe file name '../x'";
  }
  const auto found = user.find();
  CHECK(found.empty());
  REQUIRE(found.unusable.size() == 1);
  CHECK(found.unusable[0].find(cause) != std::string::npos);
  CHECK(user.observer.warnings.size() == 1);
}

TEST_CASE("a damaged torrent or manifest concerns its own release alone") {
  ReleaseFolder user;
  const auto published = user.publish(user.downloads / "release.torrent");
  std::filesystem::create_directories(user.downloads / ".sluice");
  write_text(user.downloads / ".sluice" / "0.torrent", "");
  write_text(published.manifest_path, "{");
  const auto found = user.find();
  CHECK(found.torrent == published.torrent);
  CHECK_FALSE(found.expected.manifest);
  CHECK(found.unusable.size() == 2);
  CHECK(user.observer.warnings.size() == 2);
  std::filesystem::remove(published.torrent);
  std::filesystem::remove(published.sums);
  CHECK(user.find().empty());
}

TEST_CASE("of two torrents of one name, the one that was fetched or that the files fit is taken") {
  const ReleaseFolder user;
  const auto own = user.downloads / ".sluice";
  std::filesystem::create_directories(own);
  const auto other = user.publish(user.downloads / "b.torrent").torrent;
  std::filesystem::rename(other, own / "b.torrent");
  write_text(user.release / "notes.txt", "longer notes");
  std::filesystem::rename(user.publish(user.downloads / "a.torrent").torrent, own / "a.torrent");
  CHECK(user.find().torrent == own / "a.torrent");
  write_text(user.release / "notes.txt", "notes");
  CHECK(user.find().torrent == own / "b.torrent");
  write_text(user.release / "notes.txt", "damaged notes");  // both fit the other file only
  CHECK(user.find().torrent == own / "a.torrent");
  write_text(own / "b.journal", "");
  CHECK(user.find().torrent == own / "b.torrent");
}
