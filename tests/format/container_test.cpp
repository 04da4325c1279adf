// The container's writer and reader together, and the reader with every kind of damage.

#include <doctest/doctest.h>

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "base/ascii.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "format/container_check.h"
#include "format/container_directory.h"
#include "format/container_entries.h"
#include "format/container_reader.h"
#include "format/container_writer.h"
#include "format/mistral_params.h"
#include "tests/support/check_error.h"
#include "tests/support/forged_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using namespace sluice::format;
using base::ErrorKind;
using tests::TempDir;

namespace {

Storage storage_of(const ModelTensor& tensor) {
  const bool expert = tensor.quantization == QuantizationClass::feed_forward;
  return tests::storage_of(tensor, expert ? Storage::q4_tiles : Storage::q8_tiles);
}

/// A container of tiny_params() whose tensors hold 0, 1, 2, ... as bytes.
WrittenContainer write_container(const std::filesystem::path& path,
                                 Storage (*storage_for)(const ModelTensor&) = storage_of,
                                 const ModelDescription& description = describe(tests::tiny_params())) {
  ContainerWriter writer(path, description);
  writer.add_section("tokenizer", base::as_bytes("not looked at here"));
  const auto expert_bytes = expert_extent_bytes(description, 0, Storage::q4_tiles);
  unsigned char value = 0;
  for (const ModelTensor& tensor : model_tensors(description)) {
    const Storage storage = storage_for(tensor);
    writer.begin_tensor(tensor, storage, DType::bf16, expert_bytes);
    std::vector<std::byte> bytes(storage_bytes(storage, tensor.shape));
    for (std::byte& b : bytes) b = static_cast<std::byte>(++value);
    writer.append(base::Bytes(bytes).first(bytes.size() / 3));
    writer.append(base::Bytes(bytes).subspan(bytes.size() / 3));
    writer.end_tensor(base::Sha256{});
  }
  writer.set_provenance(Json::object({{"release", "test"}}));
  writer.set_recipe(Json::object({{"quant", "q4"}}));
  return writer.finish();
}

void write_bytes(const std::filesystem::path& path, base::Bytes bytes) {
  auto file = base::File::create(path);
  file.write_at(0, bytes);
}

}  // namespace

TEST_CASE("what was written is read back, and the digests are those of the bytes") {
  const TempDir folder;
  const auto written = write_container(folder / "m.sluice");
  const auto content = base::read_file(folder / "m.sluice");
  CHECK(written.file_bytes == content.size());
  CHECK(written.file_sha256 == base::hash<base::Sha256>(content));

  const auto reader = ContainerReader::open(folder / "m.sluice");
  CHECK(reader.description() == describe(tests::tiny_params()));
  CHECK(reader.footer().version == 2);
  CHECK(reader.footer().root == written.root);
  CHECK(reader.root() == written.root);
  CHECK(reader.tensors_sha256() == written.tensors_sha256);
  CHECK(reader.tensors().size() == model_tensors(describe(tests::tiny_params())).size());
  CHECK(base::as_text(reader.bytes(*reader.find_section("tokenizer"))) == "not looked at here");
  CHECK(reader.provenance().at("release", "test").as_string("test") == "test");
  for (const auto& tensor : reader.tensors()) {
    CHECK(reader.matches_digest(tensor));
    CHECK(tensor.offset_bytes % 4096 == 0);
    CHECK(reader.find(tensor.name) == &tensor);
  }
  CHECK(reader.find("layers.9.attention.wq.weight") == nullptr);
  for (const auto& expert : reader.experts()) {
    const auto* w1 = reader.find(tensor_name(TensorRole::expert_gate, expert.layer, expert.expert));
    const auto* w2 = reader.find(tensor_name(TensorRole::expert_down, expert.layer, expert.expert));
    CHECK(expert.offset_bytes == w1->offset_bytes);
    CHECK(expert.offset_bytes + expert.length_bytes == w2->offset_bytes + w2->length_bytes);
  }
}

TEST_CASE("without finish() nothing appears") {
  const TempDir folder;
  { ContainerWriter writer(folder / "m.sluice", describe(tests::tiny_params())); }
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("large experts start on 2 MiB, smaller ones on the next page") {
  const TempDir folder;
  MistralParams params = tests::tiny_params();
  params.n_layers = 1;
  params.num_experts = 2;
  params.dim = 1024;
  params.head_dim = 64;
  // Experts of 16.5 and of 2.5 MiB.
  for (const bool large : {true, false}) {
    params.hidden_dim = large ? 10496 : 1600;
    const ModelDescription description = describe(params);
    const auto expert_bytes = expert_extent_bytes(description, 0, Storage::q4_tiles);
    REQUIRE((expert_bytes > kLargeExpertBytes) == large);
    REQUIRE(expert_bytes > kLargeExpertAlignmentBytes);
    ContainerWriter writer(folder / "m.sluice", description);
    for (const ModelTensor& tensor : model_tensors(description)) {
      const Storage storage = storage_of(tensor);
      const bool first = tensor.role == TensorRole::expert_gate;
      writer.begin_tensor(tensor, storage, DType::bf16, first ? expert_bytes : 0);
      writer.append(std::vector<std::byte>(storage_bytes(storage, tensor.shape)));
      writer.end_tensor({});
    }
    static_cast<void>(writer.finish());
    const auto reader = ContainerReader::open(folder / "m.sluice");
    for (const auto& expert : reader.experts()) CHECK(expert.length_bytes == expert_bytes);
    const std::uint64_t first = reader.experts()[0].offset_bytes;
    const std::uint64_t second = reader.experts()[1].offset_bytes;
    if (large) {
      CHECK(first % kLargeExpertAlignmentBytes == 0);
      CHECK(second % kLargeExpertAlignmentBytes == 0);
    } else {
      CHECK(second == base::align_up(first + expert_bytes, kTensorAlignmentBytes));
    }
  }
}

TEST_CASE("a container cut anywhere is refused") {
  const TempDir folder;
  write_container(folder / "m.sluice");
  const auto content = base::read_file(folder / "m.sluice");
  const auto check_cut = [&](std::size_t length) {
    write_bytes(folder / "cut", base::Bytes(content).first(length));
    CHECK_ERROR(ContainerReader::open(folder / "cut"), ErrorKind::malformed, "cut");
  };
  for (std::size_t length = 0; length < 5000; length += 7) check_cut(length);
  for (std::size_t length = content.size() - 20000; length < content.size(); length += 13) check_cut(length);
  check_cut(content.size() - 1);
  auto longer = content;
  longer.push_back(std::byte{0});
  write_bytes(folder / "cut", longer);
  CHECK_ERROR(ContainerReader::open(folder / "cut"), ErrorKind::malformed, "cut");
}

TEST_CASE("one flipped bit in header, directory or footer is refused") {
  const TempDir folder;
  write_container(folder / "m.sluice");
  auto content = base::read_file(folder / "m.sluice");
  const std::uint64_t directory = ContainerReader::open(folder / "m.sluice").footer().directory_offset_bytes;
  const auto check_flip = [&](std::size_t at, unsigned bit) {
    content[at] ^= static_cast<std::byte>(1u << bit);
    write_bytes(folder / "flipped", content);
    CHECK_ERROR(ContainerReader::open(folder / "flipped"), ErrorKind::malformed, "flipped: ");
    content[at] ^= static_cast<std::byte>(1u << bit);
  };
  for (std::size_t at = 0; at < kContainerHeaderBytes; at += at < 16 ? 1 : 61) check_flip(at, at % 8);
  for (std::size_t at = directory; at < content.size(); at += at < content.size() - 128 ? 41 : 1)
    check_flip(at, at % 8);
}

TEST_CASE("another version is refused by its number") {
  const TempDir folder;
  write_container(folder / "m.sluice");
  auto content = base::read_file(folder / "m.sluice");
  content[8] = std::byte{3};
  write_bytes(folder / "m.sluice", content);
  CHECK_ERROR(ContainerReader::open(folder / "m.sluice"), ErrorKind::malformed,
              "has container version 3, this program reads versions 1 to 2");
  content[8] = std::byte{1};
  write_bytes(folder / "m.sluice", content);
  CHECK_ERROR(ContainerReader::open(folder / "m.sluice"), ErrorKind::malformed,
              "is of version 1 by its header and of version 2 by its footer");
  write_bytes(folder / "text", base::as_bytes(std::string(5000, 'x')));
  CHECK_ERROR(ContainerReader::open(folder / "text"), ErrorKind::malformed, "is not a .sluice container");
}

TEST_CASE("a directory that contradicts itself is refused, each by its cause") {
  const TempDir folder;
  write_container(folder / "m.sluice");
  const auto reader = ContainerReader::open(folder / "m.sluice");
  const base::Bytes bytes = reader.bytes();
  const std::string text(base::as_text(
      bytes.subspan(reader.footer().directory_offset_bytes, reader.footer().directory_length_bytes)));
  const auto check = [&](auto change, std::string_view cause) {
    ContainerDirectory directory = parse_directory(text, "d");
    change(directory);
    CHECK_ERROR(check_directory(directory, reader.footer(), "d"), ErrorKind::malformed, std::string(cause));
  };
  check([](auto& d) { d.tensors.pop_back(); }, "its parameters ask for");
  check([](auto& d) { d.tensors[3].name = "layers.0.attention.wx.weight"; },
        "expected 'layers.0.attention.wk.weight'");
  check([](auto& d) { d.tensors[3].shape[0] += 1; }, "expected");
  check([](auto& d) { d.tensors[1].storage = Storage::q4_tiles; }, "is not possible here");
  check([](auto& d) { d.tensors[2].length_bytes -= 1; }, "its shape needs");
  check(
      [](auto& d) {
        d.tensors[2].storage = Storage::mx4_tiles;
        d.tensors[2].length_bytes = storage_bytes(Storage::mx4_tiles, d.tensors[2].shape);
      },
      "has type mx4, but source_dtype bf16, expected mxfp4");
  check([](auto& d) { d.tensors[2].offset_bytes += 1; }, "does not start on a page");
  check([](auto& d) { d.tensors[2].offset_bytes = d.tensors[1].offset_bytes; },
        "overlaps or leaves the payload");
  check([](auto& d) { d.tensors[2].offset_bytes = std::uint64_t{0} - 4096; }, "do not lie in the order");
  check([](auto& d) { d.tensors.back().offset_bytes = std::uint64_t{0} - 4096; },
        "overlaps or leaves the payload");
  check([](auto& d) { d.sections[0].length_bytes = std::uint64_t{0} - 1; }, "overlaps or leaves the payload");
  check([](auto& d) { d.experts.pop_back(); }, "list of experts");
  check([](auto& d) { d.experts[1].digest.bytes[0] ^= std::byte{1}; }, "list of experts");
  check([](auto& d) { d.tensors[2].digest.bytes[0] ^= std::byte{1}; }, "root digest");
  check([](auto& d) { d.description.norm.epsilon *= 2; }, "root digest");
  check([](auto& d) { d.sections[0].sha256.bytes[0] ^= std::byte{1}; }, "root digest");
  check([](auto& d) { d.sections[0].name = "tokeniser"; }, "root digest");
  check([](auto& d) { d.sections.push_back(d.sections[0]); }, "section 'tokenizer' occurs twice");
  check([](auto& d) { d.sections[0].name = "a b"; }, "a section's name has other characters");
  check([](auto& d) { d.sections[0].name = ""; }, "a section's name has other characters");
  check([](auto& d) { d.version = 1; }, "is of version 1, the footer of version 2");
  check([](auto& d) { d.description.layer_kinds[0].feed_forward.mixture->experts += 1; },
        "its parameters ask for");
  CHECK_ERROR(parse_directory(text.substr(0, text.size() - 1) + ",\"x\":1}", "d"), ErrorKind::malformed,
              "unknown key 'x'");
  CHECK_ERROR(parse_directory("[]", "d"), ErrorKind::malformed, "d");
}

TEST_CASE("the model stands in the directory twice, or as older files have it, or as the description alone") {
  const TempDir folder;
  write_container(folder / "m.sluice");
  const auto reader = ContainerReader::open(folder / "m.sluice");
  const std::string text(base::as_text(reader.bytes().subspan(reader.footer().directory_offset_bytes,
                                                              reader.footer().directory_length_bytes)));
  CHECK(text.starts_with(kDirectoryStarts[0]));
  ContainerDirectory directory = parse_directory(text, "d");
  CHECK(directory.has_description);
  CHECK(to_text(directory) == text);

  // As files of version 1 were written before there was a description.
  directory.version = 1;
  directory.has_description = false;
  const std::string older = to_text(directory);
  CHECK(older.find("description") == std::string::npos);
  const ContainerDirectory parsed = parse_directory(older, "d");
  CHECK(parsed.description == directory.description);
  CHECK_FALSE(parsed.has_description);
  CHECK(to_text(parsed) == older);

  const auto changed = [&](std::string_view from, std::string_view to) {
    std::string other = text;
    other.replace(other.find(from), from.size(), to);
    return other;
  };
  CHECK_ERROR(parse_directory(changed(R"("norm_eps":1e-05)", R"("norm_eps":1e-06)"), "d"),
              ErrorKind::malformed, "d: 'params' and 'description' are of two models");
  CHECK_ERROR(parse_directory(changed(R"("epsilon":1e-05)", R"("epsilon":1e-06)"), "d"), ErrorKind::malformed,
              "d: 'params' and 'description' are of two models");
  CHECK_ERROR(parse_directory(changed(R"("width":64)", R"("width":0)"), "d"), ErrorKind::malformed,
              "d: key 'description': key 'width': expected a whole number from 1 to 1048576, found 0");
  CHECK_ERROR(parse_directory(changed(R"("params":)", R"("param":)"), "d"), ErrorKind::malformed,
              "d: unknown key 'param'");
  CHECK_ERROR(parse_directory(older.substr(0, 1) + older.substr(older.find(R"("tensors")")), "d"),
              ErrorKind::malformed, "d: key 'params' is missing");
  CHECK_ERROR(parse_directory(text.substr(0, 1) + text.substr(text.find(R"("description")")), "d"),
              ErrorKind::malformed, "d: key 'params' is missing");
  CHECK_ERROR(parse_directory(R"({"version":2,)" + older.substr(1), "d"), ErrorKind::malformed,
              "d: key 'description' is missing");
  for (const char* version : {"0", "1", "3", "4294967298"}) {
    CHECK_ERROR(parse_directory(changed(R"("version":2)", R"("version":)" + std::string(version)), "d"),
                ErrorKind::malformed, "d: key 'version': unknown version " + std::string(version));
  }
}

TEST_CASE("a model that Mistral's parameters cannot describe has a description alone") {
  const TempDir folder;
  ModelDescription model = describe(tests::tiny_params());
  auto& attention = std::get<GroupedQueryAttention>(model.layer_kinds[0].mixer);
  attention.query_key_norm = QueryKeyNorm::per_head;
  model.layer_kinds[0].feed_forward.mixture->expert_biases = true;
  write_container(folder / "m.sluice", storage_of, model);
  const auto reader = ContainerReader::open(folder / "m.sluice");
  CHECK(reader.description() == model);
  CHECK(reader.experts().size() == 8);
  const ContainerTensor* gate_bias = reader.find("layers.1.feed_forward.experts.3.w1.bias");
  const ContainerTensor* down_bias = reader.find("layers.1.feed_forward.experts.3.w2.bias");
  const ContainerExpert& last = reader.experts().back();
  CHECK(last.offset_bytes < gate_bias->offset_bytes);
  CHECK(last.offset_bytes + last.length_bytes == down_bias->offset_bytes + down_bias->length_bytes);
  CHECK(expert_extent_bytes(model, 1, Storage::q4_tiles) == last.length_bytes);

  // Its footer can be rebuilt like any other: the directory is found by how it begins.
  auto content = base::read_file(folder / "m.sluice");
  content[content.size() - 30] ^= std::byte{1};
  write_bytes(folder / "damaged.sluice", content);
  const ContainerCheck found = check_container(folder / "damaged.sluice");
  REQUIRE(found.faults.size() == 1);
  CHECK(found.faults[0].part == "footer");
  REQUIRE(found.reader.has_value());
  CHECK(found.reader->description() == model);
}

TEST_CASE(
    "the lists of a directory are read without JSON values exactly where they are as to_text() writes them") {
  const TempDir folder;
  write_container(folder / "m.sluice");
  const auto reader = ContainerReader::open(folder / "m.sluice");
  const std::string text(base::as_text(reader.bytes().subspan(reader.footer().directory_offset_bytes,
                                                              reader.footer().directory_length_bytes)));
  const auto entries = split_directory(text);
  REQUIRE(entries.has_value());
  CHECK(entries->tensors.size() == reader.tensors().size());
  CHECK(entries->experts.size() == 8);
  // Blanks are allowed in JSON, and send a text the slower way. Both give the same values.
  std::string spaced = text;
  for (std::size_t at = spaced.find("{\"name\""); at != std::string::npos;
       at = spaced.find("{\"name\"", at + 2))
    spaced.insert(at + 1, " ");
  CHECK_FALSE(split_directory(spaced).has_value());
  CHECK(to_text(parse_directory(spaced, "d")) == text);

  // Whatever the cut, and whatever is changed in an entry, the JSON parser decides.
  for (std::size_t length = 0; length < text.size(); ++length) {
    const std::string_view cut = std::string_view(text).substr(0, length);
    if (length % 7 == 0) CHECK_THROWS_AS(static_cast<void>(parse_directory(cut, "d")), base::Error);
    if (length < text.find(",\"sections\"")) CHECK_FALSE(split_directory(cut).has_value());
  }
  const auto changed = [&](std::string_view from, std::string_view to) {
    std::string other = text;
    other.replace(other.find(from), from.size(), to);
    return other;
  };
  const std::string name = R"("name":"tok_embeddings.weight")";
  const std::string digest = base::to_hex(reader.tensors()[0].digest);
  const struct {
    std::string_view from;
    std::string to;
    std::string_view error;  // empty: the same directory in other words
  } cases[] = {
      {name, R"("name":"tok\u005fembeddings.weight")", ""},
      {R"(,"type":"bf16","layout":"rows")", R"(,"layout":"rows","type":"bf16")", ""},
      {name, R"("name":"tok)" + std::string(1, '\0') + R"(embeddings.weight")", "a NUL byte"},
      {name, "\"name\":\"tok\n\"", "is not valid JSON"},
      {R"("type":"bf16","layout":"rows")", R"("type":"q5","layout":"rows")",
       "unknown type 'q5' in layout 'rows'"},
      {R"("offset":)", R"("offset":0)", "is not valid JSON"},
      {R"("offset":)", R"("offset":-)", "expected a whole number"},
      {R"("offset":)", R"("offset":99999999999999999999)", "expected a whole number"},
      {digest, digest.substr(1), "expected 64 hex digits"},
      {digest, "g" + digest.substr(1), "expected 64 hex digits"},
      {R"("source_dtype":"bf16")", R"("source_dtype":"int3")", "unknown source_dtype"},
      {name, name + "," + name, "occurs twice in one object"},
      {R"("experts":[)", R"("experts":[],"tensors":[],"more":[)", "key 'tensors' occurs twice"},
      {R"(,"sections")", R"(,"x":1,"sections")", "unknown key 'x'"},
      {R"(,"tensors":[)", R"(,"x":{"y":1,"tensors":[)", "is not valid JSON"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.to);
    const std::string other = changed(c.from, c.to);
    if (c.error.empty()) {
      CHECK_FALSE(split_directory(other).has_value());
      CHECK(to_text(parse_directory(other, "d")) == text);
    } else {
      CHECK_ERROR(parse_directory(other, "d"), ErrorKind::malformed, std::string(c.error));
    }
  }
  // Digits of digests may be of either case, as in every other place.
  CHECK(to_text(parse_directory(changed(digest, base::to_upper(digest)), "d")) == text);

  // Lists that are members of another member are not the directory's.
  const std::size_t lists = text.find(",\"tensors\"");
  const std::size_t after = text.find(",\"sections\"");
  const std::string inner = text.substr(0, lists) + ",\"recipe\":{\"a\":1" +
                            text.substr(lists, after - lists) + "}" +
                            text.substr(after, text.find(",\"recipe\"") - after) + "}";
  CHECK_ERROR(parse_directory(inner, "d"), ErrorKind::malformed, "key 'tensors' is missing");
}

TEST_CASE("the root covers model, sections and tensors, and nothing else") {
  const TempDir folder;
  write_container(folder / "m.sluice");
  const auto reader = ContainerReader::open(folder / "m.sluice");
  const std::string text(base::as_text(reader.bytes().subspan(reader.footer().directory_offset_bytes,
                                                              reader.footer().directory_length_bytes)));
  const auto digests_with = [&](auto change) {
    ContainerDirectory directory = parse_directory(text, "d");
    change(directory);
    return digests_of(directory);
  };
  CHECK(digests_with([](auto&) {}).root == reader.root());
  for (const auto& same : {digests_with([](auto& d) {
                             d.provenance = Json::object({{"release", "other"}});
                           }),
                           digests_with([](auto& d) { d.recipe = Json::object(); }),
                           digests_with([](auto& d) { d.tensors[3].offset_bytes += 4096; }),
                           digests_with([](auto& d) { std::swap(d.tensors[3], d.tensors[4]); })}) {
    CHECK(same.root == reader.root());
    CHECK(same.tensors == reader.tensors_sha256());
  }
  std::set<std::string> roots{base::to_hex(reader.root())};
  for (const auto& other : {digests_with([](auto& d) { d.description.norm.epsilon *= 2; }),
                            digests_with([](auto& d) { d.sections[0].sha256.bytes[0] ^= std::byte{1}; }),
                            digests_with([](auto& d) { d.sections[0].name = "chat_template"; }),
                            digests_with([](auto& d) { d.sections.clear(); }), digests_with([](auto& d) {
                              d.sections.push_back({"chat_template", 0, 0, d.sections[0].sha256});
                            })}) {
    CHECK(roots.insert(base::to_hex(other.root)).second);
    CHECK(other.tensors == reader.tensors_sha256());
  }
  const auto weights = digests_with([](auto& d) { d.tensors[3].digest.bytes[0] ^= std::byte{1}; });
  CHECK(roots.insert(base::to_hex(weights.root)).second);
  CHECK(weights.tensors != reader.tensors_sha256());
}

TEST_CASE("the root is the SHA-256 of lines that anybody can write") {
  const auto digest = base::hash<base::Sha256>(base::as_bytes("x"));
  const std::string hex = base::to_hex(digest);
  CHECK(root_digest({{"tensors", "all", digest},
                     {"description", "model", digest},
                     {"section", "b", digest},
                     {"section", "a", digest}}) ==
        base::hash<base::Sha256>(base::as_bytes("sluice container root 2\ndescription model " + hex +
                                                "\nsection a " + hex + "\nsection b " + hex +
                                                "\ntensors all " + hex + "\n")));
}

TEST_CASE("a container of version 1 is read, and has the digests of its content") {
  const TempDir folder;
  const auto written = write_container(folder / "m.sluice");
  tests::write_as_version_1(folder / "m.sluice", folder / "older.sluice");
  const auto reader = ContainerReader::open(folder / "older.sluice");
  CHECK(reader.footer().version == 1);
  CHECK(reader.footer().root == written.tensors_sha256);
  CHECK(reader.root() == written.root);
  CHECK(reader.tensors_sha256() == written.tensors_sha256);
  for (const auto& tensor : reader.tensors()) CHECK(reader.matches_digest(tensor));

  // Header and footer are known from the directory, as in version 2.
  auto content = base::read_file(folder / "older.sluice");
  content[8] = std::byte{2};
  content[content.size() - 1] = std::byte{'x'};
  write_bytes(folder / "damaged.sluice", content);
  const ContainerCheck found = check_container(folder / "damaged.sluice");
  REQUIRE(found.faults.size() == 2);
  CHECK((found.faults[0].part == "header" && found.faults[0].offset_bytes == 8));
  CHECK((found.faults[1].part == "footer" && found.faults[1].offset_bytes == content.size() - 1));
  REQUIRE(found.reader.has_value());
  CHECK(found.reader->footer().version == 1);
}

TEST_CASE("a container that is cut while it is open says so") {
  const TempDir folder;
  write_container(folder / "m.sluice");
  const auto reader = ContainerReader::open(folder / "m.sluice");
  std::filesystem::resize_file(folder / "m.sluice", 8192);
  CHECK_FALSE(reader.matches_digest(reader.tensors().back()));
  CHECK_ERROR(reader.require_whole(), ErrorKind::io, "m.sluice: byte ");
}

TEST_CASE("the digest of the weights depends on names, shapes, types and bytes alone") {
  const TempDir folder;
  write_container(folder / "m.sluice");
  const auto reader = ContainerReader::open(folder / "m.sluice");
  auto tensors = reader.tensors();
  const auto weights = tensors_digest(tensors);
  std::swap(tensors[3], tensors[4]);
  tensors[5].offset_bytes += 4096;
  tensors[6].source_digest.bytes[1] ^= std::byte{1};
  CHECK(tensors_digest(tensors) == weights);
  tensors[6].digest.bytes[1] ^= std::byte{1};
  CHECK(tensors_digest(tensors) != weights);
}

TEST_CASE("types may be mixed, but matrices with one input are all floats or all integers") {
  const TempDir folder;
  write_container(folder / "q4-and-q8", [](const ModelTensor& tensor) {
    return tensor.expert && *tensor.expert % 2 == 1 ? Storage::q8_tiles : storage_of(tensor);
  });
  CHECK(ContainerReader::open(folder / "q4-and-q8").tensors().size() > 0);
  write_container(folder / "w2", [](const ModelTensor& tensor) {
    return tensor.role == TensorRole::expert_down ? Storage::bf16_tiles : storage_of(tensor);
  });
  CHECK(ContainerReader::open(folder / "w2").tensors().size() > 0);
  write_container(folder / "wk", [](const ModelTensor& tensor) {
    return tensor.role == TensorRole::key ? Storage::bf16_tiles : storage_of(tensor);
  });
  CHECK_ERROR(ContainerReader::open(folder / "wk"), ErrorKind::malformed,
              "'layers.0.attention.wk.weight': type bf16 does not go with 'layers.0.attention.wq.weight'");
  write_container(folder / "w3", [](const ModelTensor& tensor) {
    return tensor.name == "layers.1.feed_forward.experts.2.w3.weight" ? Storage::bf16_tiles
                                                                      : storage_of(tensor);
  });
  CHECK_ERROR(ContainerReader::open(folder / "w3"), ErrorKind::malformed, "experts.2.w3.weight': type bf16");
}
