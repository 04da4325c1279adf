#include <doctest/doctest.h>

#include <chrono>

#include "tests/library/library_fixture.h"
#include "tests/support/check_error.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using namespace sluice::library;
using base::ErrorKind;
using tests::LibraryFixture;
using tests::write_text;

namespace fs = std::filesystem;

namespace {

struct ModelFolder : LibraryFixture {
  ModelFolder() {
    fs::create_directories(release);
    tests::write_tiny_release(release, tests::tiny_params(), 1);
  }

  fs::path prepare(const std::string& model, const std::string& quant = "q8") {
    ModelRequest request;
    request.model = model;
    request.quant = quant;
    return prepare_model(request, context);
  }

  const fs::path release = dir / "tiny";
};

}  // namespace

TEST_CASE("a container is a model as it is, and no store is needed for it") {
  LibraryFixture user;
  user.folders.store.clear();
  const auto file = user.dir / "model.sluice";
  write_text(file, "opening it says what it is");
  ModelRequest request;
  request.model = file.string();
  CHECK(prepare_model(request, user.context) == file);
}

TEST_CASE("a release folder is converted once, and again when a file of it has changed") {
  ModelFolder user;
  const auto first = user.prepare(user.release.string());
  CHECK(first.parent_path() == user.folders.store / "models");
  REQUIRE(user.observer.warnings.size() == 1);  // it has no references
  const auto made = fs::last_write_time(first);
  CHECK(user.prepare(user.release.string()) == first);
  CHECK(fs::last_write_time(first) == made);
  CHECK(user.observer.warnings.size() == 1);

  tests::write_tiny_release(user.release, tests::tiny_params(), 2);
  CHECK(user.prepare(user.release.string()) != first);
}

TEST_CASE("a release that differs from its references is not converted") {
  ModelFolder user;
  write_text(user.release / "SHA256SUMS", tests::sums_line("other", "params.json"));
  CHECK_ERROR(user.prepare(user.release.string()), ErrorKind::verification, "1 damaged");
  CHECK(Store(user.folders.store).list().empty());
}

TEST_CASE("a known release without files or magnet link, or one that cannot be converted, is refused") {
  ModelFolder user;
  user.add_release("nowhere");
  CHECK_ERROR(user.prepare("nowhere"), ErrorKind::usage, "no magnet link");
  user.add_release("strange", R"("unsupported": "it has layers of another kind")");
  CHECK_ERROR(user.prepare("strange"), ErrorKind::malformed, "layers of another kind");
}

TEST_CASE("an unknown quantization is refused before anything is done") {
  ModelFolder user;
  CHECK_ERROR(user.prepare(user.release.string(), "q6"), ErrorKind::usage, "'q6' is no quantization");
  CHECK_FALSE(fs::exists(user.folders.store));
}

TEST_CASE("a stored model runs by its name, in the type that is asked for") {
  ModelFolder user;
  const auto q8 = user.prepare(user.release.string());
  CHECK(user.prepare("tiny") == q8);
  CHECK(user.prepare("tiny-q8", "") == q8);
  CHECK(user.prepare(q8.stem().string(), "") == q8);
  CHECK(user.prepare("tiny", "") == q8);  // the only one, though q4 is the default
  CHECK_ERROR(user.prepare("tiny", "bf16"), ErrorKind::usage, "has this model as q8 and not as bf16");
  const auto q4 = user.prepare(user.release.string(), "q4");
  CHECK(user.prepare("tiny", "") == q4);
  CHECK(user.prepare("tiny", "q8") == q8);
  CHECK_ERROR(user.prepare("tinny"), ErrorKind::usage, "did you mean tiny?");
}

TEST_CASE("files with times before 1970 are converted once") {
  ModelFolder user;
  fs::last_write_time(user.release / "params.json", fs::file_time_type::clock::from_sys(
                                                        std::chrono::sys_seconds{} - std::chrono::hours(12)));
  const auto first = user.prepare(user.release.string());
  const auto made = fs::last_write_time(first);
  CHECK(user.prepare(user.release.string()) == first);
  CHECK(fs::last_write_time(first) == made);
  CHECK(Store(user.folders.store).list().at(0).problem.empty());
}
