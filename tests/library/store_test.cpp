#include <doctest/doctest.h>

#include <chrono>
#include <future>
#include <thread>

#include "tests/library/library_fixture.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::library;
using base::ErrorKind;
using tests::LibraryFixture;
using tests::write_text;

namespace {

ModelSource make_source(const std::filesystem::path& release) {
  return {"demo", "q4", release.string(), list_source_files(release)};
}

StoredModel keep_model(Store& store, const ModelSource& source) {
  const auto unfinished = store.unfinished_path(source);
  base::write_file(unfinished, base::as_bytes("a model"));
  base::Sha256 root;
  root.bytes.fill(std::byte{0xab});
  return store.keep(unfinished, source, root);
}

}  // namespace

TEST_CASE("the store finds a model again while its source is unchanged") {
  const tests::TempDir dir;
  const auto release = dir / "release";
  std::filesystem::create_directory(release);
  base::write_file(release / "params.json", base::as_bytes("{}"));
  Store store(dir / "store");
  const auto source = make_source(release);
  CHECK_FALSE(store.find(source));

  const auto kept = keep_model(store, source);
  CHECK(kept.path.filename() == "demo-q4-abababababab.sluice");
  REQUIRE(store.find(source));
  CHECK(store.find(source)->path == kept.path);

  auto other_quant = source;
  other_quant.quant = "q8";
  CHECK_FALSE(store.find(other_quant));

  base::write_file(release / "params.json", base::as_bytes("{ }"));
  CHECK_FALSE(store.find(make_source(release)));
}

TEST_CASE("the store finds a fetched model by info-hash alone, and none whose file was removed") {
  const tests::TempDir dir;
  Store store(dir / "store");
  const ModelSource source{"demo", "q4", "0123456789abcdef", {}};
  const auto kept = keep_model(store, source);
  CHECK(store.find(source));
  std::filesystem::remove(kept.path);
  CHECK_FALSE(store.find(source));
}

TEST_CASE("a damaged record stands for no model") {
  const tests::TempDir dir;
  Store store(dir / "store");
  const ModelSource source{"demo", "q4", "0123456789abcdef", {}};
  auto record = keep_model(store, source).path;
  base::write_file(record.replace_extension(".json"), base::as_bytes("{\"name\": 7"));
  CHECK_FALSE(store.find(source));
}

TEST_CASE("names with strange characters make tame file names in the store") {
  const tests::TempDir dir;
  Store store(dir / "store");
  const auto path = store.unfinished_path({"../a b/\x1b[31m", "q4", "x", {}});
  CHECK(path.parent_path() == dir / "store" / "models");
  CHECK(path.filename() == "_._a_b___31m-q4.unfinished");
}

TEST_CASE("the list of models has those without a usable record, too, and says why") {
  LibraryFixture user;
  Store store(user.folders.store);
  CHECK(store.list().empty());
  const auto kept = keep_model(store, {"demo", "q4", "0123456789abcdef", {}});
  auto damaged = keep_model(store, {"other", "q8", "fedcba", {}}).path;
  base::write_file(damaged.replace_extension(".json"), base::as_bytes("{"));
  write_text(store.folder() / "models" / "copied.sluice", "a model of the user");

  const auto models = store.list();
  REQUIRE(models.size() == 3);
  CHECK(models[0].full_name() == "copied");
  CHECK(models[0].problem == "it has no record of what it was made from");
  CHECK(models[1].path == kept.path);
  CHECK(models[1].bytes == 7);
  CHECK(models[1].source.identity == "0123456789abcdef");
  CHECK(models[1].name_with_quant() == "demo-q4");
  CHECK(models[1].problem.empty());
  CHECK(models[2].name_with_quant() == "other-q8-abababababab");
  CHECK(models[2].problem.find("other-q8") != std::string::npos);
}

TEST_CASE("a model is meant by its name, with quantization and root, or by digits of the root") {
  const tests::TempDir dir;
  Store store(dir / "store");
  keep_model(store, {"demo", "q4", "x", {}});
  keep_model(store, {"demo", "q8", "x", {}});
  keep_model(store, {"strange name", "q8", "y", {}});
  const auto models = store.list();
  const auto count = [&](const char* name) { return find_models(models, name).size(); };
  CHECK(count("demo") == 2);
  CHECK(count("demo-q4") == 1);
  CHECK(count("demo-q4-ab") == 1);
  CHECK(count("demo-q4-abababababab") == 1);
  CHECK(count("demo-q4-abababababab.sluice") == 1);
  CHECK(count("demo-q4-abc") == 0);
  CHECK(count("demo-q4-") == 0);
  CHECK(count("ababab") == 3);
  CHECK(count("ab") == 0);
  CHECK(count("strange name") == 1);
  CHECK(count("strange_name") == 1);
  CHECK(count("dem") == 0);
}

TEST_CASE("a damaged record of a release is passed over, and told when places are listed") {
  LibraryFixture user;
  Store store(user.folders.store);
  const std::string v1(40, 'a');
  const std::string v2(64, 'b');
  write_text(user.dir / "downloads" / "demo" / "file", "x");
  store.keep_place({"demo", "demo", v1, v2, user.dir / "downloads", 1, true});
  REQUIRE(store.find_place(v2));
  CHECK(store.find_place(v1)->path() == user.dir / "downloads" / "demo");
  CHECK(store.find_place(v1)->torrent() == user.dir / "downloads" / ".sluice" / (v1 + ".torrent"));
  CHECK_FALSE(store.find_place(""));
  CHECK_FALSE(store.find_place(std::string(40, 'c')));

  const auto record = store.place_record(v1);
  std::string text = base::read_text_file(record);
  text.replace(text.find("\"torrent_name\": \"demo\""), 22, "\"torrent_name\": \"../x\"");
  for (const std::string& damaged : {std::string("{"), text}) {
    write_text(record, damaged);
    CHECK_FALSE(store.find_place(v1));
    user.observer.warnings.clear();
    CHECK(store.list_places(user.observer).empty());
    REQUIRE(user.observer.warnings.size() == 1);
    CHECK(user.observer.warnings[0].find(record.string()) != std::string::npos);
  }
}

TEST_CASE("a store without a folder is a usage error, and nothing is created before something is kept") {
  const tests::TempDir dir;
  CHECK_ERROR(Store(""), ErrorKind::usage, "model store");
  const Store store(dir / "store");
  CHECK_FALSE(store.find({"demo", "q4", "x", {}}));
  CHECK_FALSE(std::filesystem::exists(dir / "store"));
}

TEST_CASE("a checkpoint file is a source together with its shards, parameters, tokenizer and template") {
  const tests::TempDir dir;
  for (const char* name :
       {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "config.json",
        "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "notes.txt"})
    tests::write_text(dir / name, name);
  std::vector<std::string> names;
  for (const auto& file : list_source_files(dir / "model-00001-of-00002.safetensors"))
    names.push_back(file.path);
  CHECK(names == std::vector<std::string>{
                     "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "config.json",
                     "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"});
}

TEST_CASE("one process at a time makes a model; another model is not locked") {
  LibraryFixture user;
  Store store(user.folders.store);
  const auto held = store.lock("demo", "q4", user.observer, {});
  static_cast<void>(store.lock("demo", "q8", user.observer, {}));
  CHECK(user.observer.notes.empty());

  std::stop_source stop;
  stop.request_stop();
  CHECK_ERROR(store.lock("demo", "q4", user.observer, stop.get_token()), ErrorKind::interrupted,
              "interrupted");
}

TEST_CASE("a wait for the store's lock is noted once and ends when the lock is released") {
  LibraryFixture user;
  Store store(user.folders.store);
  auto held = std::make_unique<StoreLock>(store.lock("demo", "q4", user.observer, {}));
  std::promise<void> waiting;
  auto waiter = std::async(std::launch::async, [&] {
    Store same(user.folders.store);
    waiting.set_value();
    return same.lock("demo", "q4", user.observer, {});
  });
  waiting.get_future().wait();
  // The waiter looks at the lock every 50 ms: it has seen it taken more than once when it is released.
  CHECK(waiter.wait_for(std::chrono::milliseconds(200)) == std::future_status::timeout);
  held.reset();
  static_cast<void>(waiter.get());
  REQUIRE(user.observer.notes.size() == 1);
  CHECK(user.observer.notes[0].find("another process is making this model") != std::string::npos);
}
