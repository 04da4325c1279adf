#include <doctest/doctest.h>

#include "library/source_release.h"
#include "tests/library/library_fixture.h"

using namespace sluice;
using namespace sluice::library;
using format::Json;
using tests::LibraryFixture;

namespace fs = std::filesystem;

TEST_CASE(
    "the release of a container is looked for beside it, in the store and among the embedded releases") {
  const LibraryFixture user;
  user.add_release(
      "demo",
      R"("torrent": {"name": "Demo-Folder", "infohash_v1": "0123456789012345678901234567890123456789"})");
  fs::create_directories(user.folders.data / "manifests" / "demo");
  const auto container = user.dir / "models" / "demo-q4.sluice";
  const auto provenance = Json::object({{"release", "demo"}, {"infohash_v1", "abcd"}});
  const auto beside = user.dir / "models";
  const auto stored = user.folders.store / "releases" / "abcd";
  CHECK(list_source_releases(container, provenance, user.folders) ==
        std::vector<fs::path>{beside / "demo", beside / "Demo-Folder", stored / "demo",
                              stored / "Demo-Folder", user.folders.data / "manifests" / "demo"});

  CHECK(find_source_release(container, provenance, user.folders) == user.folders.data / "manifests" / "demo");
  fs::create_directories(stored / "Demo-Folder");
  CHECK(find_source_release(container, provenance, user.folders) == stored / "Demo-Folder");
}

TEST_CASE("names that a container records cannot lead out of the folders") {
  const LibraryFixture user;
  const auto provenance =
      Json::object({{"release", "../../etc"}, {"infohash_v1", "../.."}, {"infohash_v2", 7}});
  CHECK(list_source_releases(user.dir / "m.sluice", provenance, user.folders).empty());
}

TEST_CASE("a container that lost its directory is recognised by its tokenizer, also a damaged one") {
  LibraryFixture user;
  const std::string tokenizer(4096, 't');
  tests::write_text(user.dir / "other" / "tokenizer.model", std::string(4096, 'o'));
  tests::write_text(user.dir / "release" / "tokenizer.model", tokenizer);
  const auto container = user.dir / "m.sluice";
  std::string content = std::string(4096, '\0') + tokenizer;
  content[5000] = 'x';
  tests::write_text(container, content);
  CHECK(guess_source_release(container, user.context) == user.dir / "release");
  tests::write_text(container, std::string(8192, '\0'));
  CHECK_FALSE(guess_source_release(container, user.context));
}
