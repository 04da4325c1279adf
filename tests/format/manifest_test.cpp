#include "format/manifest.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "tests/support/check_error.h"

using namespace sluice;
using base::ErrorKind;
using format::Manifest;
using format::parse_manifest;
using format::parse_sums;

namespace {

constexpr const char* kMd5 = "900150983cd24fb0d6963f7d28e17f72";
constexpr const char* kSha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kSha1 = "a9993e364706816aba3e25717850c26c9cd0d89d";

/// A manifest with these members in addition to the two required ones.
std::string with(const std::string& members) {
  return R"({"manifest":1,"name":"m")" + (members.empty() ? "" : ',' + members) + '}';
}

const std::string kTensor =
    std::string(R"({"name":"a","dtype":"f32","shape":[],"digest":")") + kSha256 + R"("})";

const std::filesystem::path kDemo = SLUICE_DEMO_RELEASE;
const std::filesystem::path kManifests = kDemo.parent_path();

}  // namespace

TEST_CASE("a manifest keeps all that it says, and its text reads back as the same text") {
  const std::string text = with(
      std::string(R"("description":"d","licence":"MIT","source":"s","unsupported":"u",
    "torrent":{"name":"n","infohash_v1":")") +
      kSha1 + R"(","infohash_v2":")" + kSha256 +
      R"(","trackers":["udp://t.example:80/announce"],"web_seeds":["https://w.example/v1/"]},"tensor_count":3,"parameter_count":18446744073709551615,"context_tokens":32768,
    "files":[{"path":"a/b","bytes":5,"md5":")" +
      kMd5 + R"(","sha256":")" + kSha256 + R"(","root":")" + kSha256 + R"("},{"path":"c"}],
    "tensors":[{"name":"layers.0.w1","dtype":"bf16","shape":[2,3],"digest":")" +
      kSha256 + R"("},{"name":"scalar","dtype":"f32","shape":[],"digest":")" + kSha256 + R"("}],
    "containers":[{"name":"m-q4.sluice","quant":"q4","root":")" +
      kSha256 + R"("}])");
  const Manifest manifest = parse_manifest(text, "m.json");
  CHECK(manifest.name == "m");
  CHECK(manifest.description == "d");
  CHECK(manifest.licence == "MIT");
  CHECK(manifest.source == "s");
  CHECK(manifest.unsupported == "u");
  CHECK(manifest.torrent_name == "n");
  CHECK(base::to_hex(*manifest.infohash_v1) == kSha1);
  CHECK(base::to_hex(*manifest.infohash_v2) == kSha256);
  CHECK(manifest.trackers == std::vector<std::string>{"udp://t.example:80/announce"});
  CHECK(manifest.web_seeds == std::vector<std::string>{"https://w.example/v1/"});
  CHECK(manifest.magnet().ends_with(
      "&dn=n&tr=udp%3A%2F%2Ft.example%3A80%2Fannounce&ws=https%3A%2F%2Fw.example%2Fv1%2F"));
  CHECK(manifest.tensor_count == 3);
  CHECK(manifest.parameter_count == ~0ull);
  CHECK(manifest.context_tokens == 32768);
  REQUIRE(manifest.files.size() == 2);
  CHECK(manifest.find_file("a/b") == &manifest.files[0]);
  CHECK(manifest.find_file("b") == nullptr);
  CHECK(manifest.files[0].length_bytes == 5);
  CHECK(base::to_hex(*manifest.files[0].md5) == kMd5);
  CHECK(base::to_hex(*manifest.files[0].sha256) == kSha256);
  CHECK(base::to_hex(*manifest.files[0].root) == kSha256);
  CHECK_FALSE(manifest.files[1].length_bytes);
  CHECK_FALSE(manifest.files[1].md5);

  const auto sha256 = base::parse_digest<base::Sha256>(kSha256).value();
  CHECK(manifest.tensors ==
        std::vector<format::ManifestTensor>{{"layers.0.w1", format::DType::bf16, {2, 3}, sha256},
                                            {"scalar", format::DType::f32, {}, sha256}});
  CHECK(manifest.containers == std::vector<format::ManifestContainer>{{"m-q4.sluice", "q4", sha256}});

  const std::string again = to_text(manifest);
  CHECK(parse_manifest(again, "again").tensors == manifest.tensors);
  CHECK(parse_manifest(again, "again").containers == manifest.containers);
  CHECK(to_text(parse_manifest(again, "again")) == again);
  CHECK(parse_manifest(again, "again").files[0].sha256 == manifest.files[0].sha256);
}

TEST_CASE("what is not known stays absent") {
  const Manifest manifest = parse_manifest(with(""), "m.json");
  CHECK(manifest.magnet().empty());
  CHECK_FALSE(manifest.params);
  CHECK(to_text(manifest) == "{\n  \"manifest\": 1,\n  \"name\": \"m\"\n}\n");
}

TEST_CASE("damaged manifests are refused with place and cause") {
  const struct {
    std::string text, cause;
  } cases[] = {
      {"", "is not valid JSON"},
      {"[]", "expected an object"},
      {R"({"name":"m"})", "key 'manifest' is missing"},
      {R"({"manifest":1})", "key 'name' is missing"},
      {R"({"manifest":2,"name":"m"})", "expected manifest version 1, found 2"},
      {R"({"manifest":1,"name":""})", "expected a name"},
      {R"({"manifest":1,"name":"../x"})", "expected a name"},
      {R"({"manifest":1,"name":"Big"})", "expected a name"},
      {R"({"manifest":1,"name":"-m"})", "expected a name"},
      {with(R"("licence":"")"), "licence: is empty"},
      {with(R"("licence":5)"), "licence: expected a string, found 5"},
      {with(R"("source":"a\u001b[2J")"), "source: has characters that cannot be shown"},
      {with(R"("sha256":"x")"), "unknown key 'sha256'"},
      {with(R"("torrent":[])"), "torrent: expected an object"},
      {with(R"("torrent":{"piece_length":1})"), "unknown key 'piece_length'"},
      {with(R"("torrent":{"infohash_v1":"123"})"), "infohash_v1: expected 40 hex digits, found '123'"},
      {with(R"("torrent":{"name":"../n"})"), "unsafe file name"},
      {with(R"("torrent":{"trackers":["udp:/x"]})"), "expected the URL of a tracker"},
      {with(R"("torrent":{"trackers":["http://a b"]})"), "expected the URL of a tracker"},
      {with(R"("torrent":{"trackers":["udp://"]})"), "expected the URL of a tracker"},
      {with(R"("torrent":{"web_seeds":["udp://a"]})"), "expected the URL of a web seed, found 'udp://a'"},
      {with(R"("tensor_count":-1)"), "tensor_count: expected a whole number"},
      {with(R"("context_tokens":0)"), "context_tokens: expected more than 0"},
      {with(R"("tensor_count":1.5)"), "tensor_count: expected a whole number"},
      {with(R"("params":{"dim":1})"), "m.json: params"},
      {with(R"("files":{})"), "files: expected an array"},
      {with(R"("files":[{}])"), "key 'path' is missing"},
      {with(R"("files":[{"path":"../a"}])"), "unsafe file name '../a'"},
      {with(R"("files":[{"path":"a"},{"path":"a"}])"), "stands twice"},
      {with(R"("files":[{"path":"a"},{"path":"a/b"}])"), "both a file and a folder"},
      {with(R"("files":[{"path":"a","size":1}])"), "unknown key 'size'"},
      {with(R"("files":[{"path":"a","bytes":"1"}])"), "'a': bytes: expected a whole number"},
      {with(R"("files":[{"path":"a","md5":"zz"}])"), "'a': md5: expected 32 hex digits"},
      {with(R"("files":[{"path":"a","sha256":""}])"), "'a': sha256: expected 64 hex digits"},
      {with(R"("tensors":{})"), "tensors: expected an array"},
      {with(R"("tensors":[{}])"), "tensors: key 'name' is missing"},
      {with(R"("tensors":[{"name":""}])"), "tensors: name: is empty"},
      {with(R"("tensors":[{"name":"a"}])"), "'a': key 'dtype' is missing"},
      {with(R"("tensors":[{"name":"a","dtype":"q4"}])"), "'a': unknown dtype 'q4'"},
      {with(R"("tensors":[{"name":"a","dtype":"f32"}])"), "'a': key 'shape' is missing"},
      {with(R"("tensors":[{"name":"a","dtype":"f32","shape":[-1]}])"), "'a': shape: expected a whole number"},
      {with(R"("tensors":[{"name":"a","dtype":"f32","shape":[4294967296,4294967296]}])"),
       "'a': shape: has too many elements"},
      {with(R"("tensors":[{"name":"a","dtype":"f32","shape":[]}])"), "'a': key 'digest' is missing"},
      {with(R"("tensors":[{"name":"a","dtype":"f32","shape":[],"digest":"12"}])"),
       "'a': digest: expected 64 hex digits, found '12'"},
      {with(R"("tensors":[{"name":"a","strides":[1]}])"), "unknown key 'strides'"},
      {with(R"("tensors":[)" + kTensor + ',' + kTensor + "]"), "tensors: 'a' occurs twice"},
      {with(R"("containers":[{"name":"../a"}])"), "unsafe file name '../a'"},
      {with(R"("containers":[{"name":"a","quant":"q5"}])"),
       "'a': quant: expected q4, q8 or bf16, found 'q5'"},
      {with(R"("containers":[{"name":"a","quant":"q4"}])"), "'a': key 'root' is missing"},
      {with(R"("containers":[{"name":"a","quant":"q4","root":1}])"), "'a': root: expected a string, found 1"},
  };
  for (const auto& [text, cause] : cases) {
    CAPTURE(text);
    CHECK_ERROR(parse_manifest(text, "m.json"), ErrorKind::malformed, cause);
    CHECK_ERROR(parse_manifest(text, "m.json"), ErrorKind::malformed, "m.json: ");
  }
}

TEST_CASE("a manifest cut anywhere is refused") {
  const std::string text = base::read_text_file(kManifests / "stories-moe.json");
  const std::size_t end = text.rfind('}');
  for (std::size_t cut = 0; cut <= end; ++cut) {
    CAPTURE(cut);
    CHECK_ERROR(parse_manifest(text.substr(0, cut), "m"), ErrorKind::malformed, "m: ");
  }
}

TEST_CASE("the magnet link has both hashes, and everything else escaped") {
  Manifest manifest;
  manifest.torrent_name = "a b&c/\u00e9";
  manifest.trackers = {"udp://t.example:80/announce?x=1"};
  CHECK(manifest.magnet().empty());
  manifest.infohash_v2 = base::parse_digest<base::Sha256>(kSha256);
  const std::string rest = "&dn=a%20b%26c%2F%C3%A9&tr=udp%3A%2F%2Ft.example%3A80%2Fannounce%3Fx%3D1";
  CHECK(manifest.magnet() == std::string("magnet:?xt=urn:btmh:1220") + kSha256 + rest);
  manifest.infohash_v1 = base::parse_digest<base::Sha1>(kSha1);
  CHECK(manifest.magnet() ==
        std::string("magnet:?xt=urn:btih:") + kSha1 + "&xt=urn:btmh:1220" + kSha256 + rest);
  manifest.infohash_v2.reset();
  manifest.torrent_name.clear();
  manifest.trackers.clear();
  CHECK(manifest.magnet() == std::string("magnet:?xt=urn:btih:") + kSha1);
}

TEST_CASE("the embedded release is what its manifest says") {
  const Manifest manifest = format::read_manifest(kManifests / "stories-moe.json");
  CHECK(manifest.name == "stories-moe");
  CHECK(manifest.licence == "Apache-2.0");
  CHECK(manifest.tensor_count == 127);
  CHECK(manifest.parameter_count == 14297344);
  CHECK(manifest.params == format::parse_params(base::read_text_file(kDemo / "params.json"), "params.json"));
  std::size_t on_disk = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kDemo)) {
    ++on_disk;
    const auto* file = manifest.find_file(entry.path().filename().string());
    REQUIRE(file != nullptr);
    CAPTURE(file->path);
    const auto bytes = base::read_file(entry.path());
    CHECK(file->length_bytes == bytes.size());
    CHECK(file->md5 == base::hash<base::Md5>(bytes));
    CHECK(file->sha256 == base::hash<base::Sha256>(bytes));
    CHECK(file->root == base::merkle_digest(bytes));
  }
  CHECK(on_disk == manifest.files.size());
}

TEST_CASE("every shipped manifest can be read and is called as its file") {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kManifests)) {
    if (entry.path().extension() != ".json") continue;
    CHECK(format::read_manifest(entry.path()).name == entry.path().stem().string());
    ++count;
  }
  CHECK(count >= 2);
}

TEST_CASE("the known releases have their info-hashes, and nothing that nobody published") {
  struct Known {
    const char* name;
    const char* infohash;
    const char* folder;
    std::size_t trackers;
  };
  for (const auto& [name, infohash, folder, trackers] : {
           Known{"mistral-7b-v0.1", "208b101a0f51514ecf285885a8b0f6fb1a1e4d7d", "mistral-7B-v0.1", 0},
           Known{"mixtral-8x22b", "9238b09245d0d8cd915be09927769d5f7584c1c9", "mixtral-8x22b", 2},
           Known{"grok-1", "5f96d43576e3d386c9ba65b883210a393b68210e", "", 3},
           Known{"pixtral-12b", "7278e625de2b1da598b23954c13933047126238a", "pixtral-12b-240910", 3},
           Known{"mistral-small-3", "11f2d1ca613ccf5a5c60104db9f3babdfa2e6003", "Mistral-Small-3-Instruct",
                 0},
       }) {
    CAPTURE(name);
    const Manifest manifest = format::read_manifest(kManifests / (std::string(name) + ".json"));
    CHECK(manifest.name == name);
    CHECK(base::to_hex(manifest.infohash_v1.value()) == infohash);
    CHECK(manifest.torrent_name == folder);
    CHECK(manifest.trackers.size() == trackers);
    CHECK(manifest.files.size() == (manifest.name == "grok-1" ? 770 : 0));
    CHECK(manifest.unsupported.empty() == (manifest.name != "pixtral-12b"));
  }
  // Hybrid torrents of a registry, which have no tracker.
  for (const char* name :
       {"leanstral-1.5-119b-a6b", "ling-3.0-tiny", "ornith-1.5-35b-a3b", "qwen-agentworld-35b-a3b"}) {
    CAPTURE(name);
    const Manifest manifest = format::read_manifest(kManifests / (std::string(name) + ".json"));
    CHECK(manifest.infohash_v1.has_value());
    CHECK(manifest.infohash_v2.has_value());
    CHECK(manifest.trackers.empty());
    CHECK(manifest.web_seeds.size() == 1);
    CHECK(manifest.unsupported.empty() == (manifest.name != "ling-3.0-tiny"));
  }
  const auto params = format::read_manifest(kManifests / "mistral-7b-v0.1.json").params.value();
  CHECK(params.num_experts == 0);
  CHECK(params.sliding_window == 4096);
  CHECK(params.rope_theta == 1e4);
}

TEST_CASE("mixtral-8x7b has what is confirmed of it") {
  const Manifest manifest = format::read_manifest(kManifests / "mixtral-8x7b.json");
  CHECK(manifest.magnet() ==
        "magnet:?xt=urn:btih:5546272da9065eddeb6fcd7ffddeef5b75be79a7&dn=mixtral-8x7b-32kseqlen");
  REQUIRE(manifest.params);
  CHECK(manifest.params->num_experts == 8);
  CHECK(manifest.params->rope_theta == 1e6);  // by the rule for a missing one
  const auto* tokenizer = manifest.find_file("tokenizer.model");
  REQUIRE(tokenizer != nullptr);
  CHECK(tokenizer->length_bytes == 493443);
  // Nobody published these values, so they are absent.
  const auto* weights = manifest.find_file("consolidated.00.pth");
  REQUIRE(weights != nullptr);
  CHECK_FALSE(weights->length_bytes);
  CHECK_FALSE(weights->sha256);
}

TEST_CASE("checksum lists are read as md5sum and sha256sum write them") {
  const auto files =
      parse_sums(std::string(kMd5) + "  a b.txt\r\n" + kSha256 + " *c/d\n\n" + kSha256 + "  ./a b.txt").files;
  REQUIRE(files.size() == 2);
  CHECK(files[0].path == "a b.txt");
  CHECK(base::to_hex(*files[0].md5) == kMd5);
  CHECK(base::to_hex(*files[0].sha256) == kSha256);
  CHECK(files[1].path == "c/d");
  CHECK_FALSE(files[1].md5);
  CHECK_FALSE(files[1].length_bytes);
  CHECK(base::to_hex(*files[1].sha256) == kSha256);
}

TEST_CASE("a RELEASE text gives the sums in its frame") {
  const auto files = parse_sums(base::read_text_file(kDemo / "RELEASE")).files;
  REQUIRE(files.size() == 3);
  CHECK(files[0].path == "consolidated.00.pth");
  CHECK(base::to_hex(*files[0].md5) == "ec0f974c440193f090ac79f75e540211");
  CHECK(files[1].path == "tokenizer.model");
  CHECK(files[2].path == "params.json");
}

TEST_CASE("lines that are no sums do not count, and hostile ones are refused") {
  const std::string md5 = kMd5;
  for (const std::string& line :
       {std::string(""), std::string("hello world"), md5, md5 + "  ", md5 + "  -", 'x' + md5 + "  a",
        md5 + "0  a", std::string(kSha1) + "  a", md5.substr(1) + "  a", "g" + md5.substr(1) + "  a",
        "# " + md5 + "  a", "; " + md5 + "  a", "MD5 (a) = " + md5.substr(1), "SHA256 (a) = " + md5,
        "MD5 (a = " + md5, "(a) = " + md5}) {
    CAPTURE(line);
    CHECK(parse_sums(line).files.empty());
  }
  CHECK_ERROR(parse_sums(md5 + "  ../a"), ErrorKind::malformed, "unsafe file name '../a'");
  CHECK_ERROR(parse_sums(md5 + "  /etc/passwd"), ErrorKind::malformed, "is absolute");
  CHECK_ERROR(parse_sums(md5 + "  a\n" + std::string(32, '0') + "  a"), ErrorKind::malformed,
              "two different digests");
  CHECK_ERROR(parse_sums(md5 + " *C:\\models\\a"), ErrorKind::malformed, "is absolute");
  CHECK(parse_sums(md5 + "  a\n" + md5 + "  a").files.size() == 1);
}

TEST_CASE("checksum lists are read in every dialect that tools write") {
  const std::string sha256 = kSha256;
  std::string upper = sha256;
  for (char& c : upper) c = static_cast<char>(c >= 'a' ? c - 'a' + 'A' : c);
  struct Case {
    std::string text;
    std::string path;
  };
  const std::vector<Case> cases = {
      {"SHA256 (a b(1).bin) = " + sha256, "a b(1).bin"},  // sha256sum --tag
      {"SHA2-256(a.bin)= " + sha256, "a.bin"},            // openssl dgst
      {"\\SHA256 (a\\nb) = " + sha256, "a\nb"},
      {sha256 + " a.bin", "a.bin"},
      {sha256 + "\ta.bin", "a.bin"},
      {upper + " *.\\sub\\a.bin\r\n", "sub/a.bin"},
      {"\xEF\xBB\xBF" + sha256 + "  ././a.bin\r\n", "a.bin"},
      {"# comment\n; comment\n  " + sha256 + "  a.bin\n", "a.bin"},
      {sha256 + "\n", "own.bin"},
      {sha256 + "  -\n", "own.bin"},
  };
  for (const Case& one : cases) {
    CAPTURE(one.text);
    const auto files = parse_sums(one.text, "list", "own.bin").files;
    REQUIRE(files.size() == 1);
    CHECK(files[0].path == one.path);
    CHECK(base::to_hex(files[0].sha256.value()) == kSha256);
  }
}

TEST_CASE("checksum lists in UTF-16 are read with and without a byte order mark") {
  const std::u16string line = u"  \u00E9\U0001F600.bin\r\n";
  std::u16string text(std::string_view(kSha256).begin(), std::string_view(kSha256).end());
  text += line;
  const auto encode = [](const std::u16string& units, bool big) {
    std::string bytes;
    for (const char16_t unit : units) {
      const char high = static_cast<char>(unit >> 8);
      const char low = static_cast<char>(unit & 0xFF);
      bytes += big ? high : low;
      bytes += big ? low : high;
    }
    return bytes;
  };
  for (const bool big : {false, true}) {
    for (const std::u16string& mark : {std::u16string(u"\uFEFF"), std::u16string()}) {
      const auto files = parse_sums(encode(mark + text, big)).files;
      REQUIRE(files.size() == 1);
      CHECK(files[0].path == "\xC3\xA9\xF0\x9F\x98\x80.bin");
    }
    const std::u16string half(1, static_cast<char16_t>(0xD83D));
    CHECK_ERROR(parse_sums(encode(u"\uFEFF" + half + text, big)), ErrorKind::malformed, "half a character");
    CHECK_ERROR(parse_sums(encode(u"\uFEFFx", big).substr(0, 3)), ErrorKind::malformed,
                "ends within a character");
  }
}

TEST_CASE("digests that are not compared are named") {
  const auto list = parse_sums(std::string(kSha1) + "  a\nSHA512 (b) = " + std::string(128, 'a') +
                               "\nBLAKE2b (c) = " + std::string(128, 'a') + "\nSHA3-256 (d) = " + kSha256);
  CHECK(list.files.empty());
  std::string all;
  for (const auto& entry : list.not_compared) all += entry.algorithm + ' ' + entry.path + ';';
  CHECK(all == "SHA-1 a;SHA-512 b;BLAKE2b c;SHA3-256 d;");
}

TEST_CASE("a checksum list of many lines takes time in proportion, and can be interrupted") {
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += kSha256 + std::string("  f") + std::to_string(i) + '\n';
  CHECK(parse_sums(text).files.size() == 200'000);  // a quadratic reader takes minutes
  std::stop_source stop;
  stop.request_stop();
  CHECK_ERROR(parse_sums(text, "list", "", stop.get_token()), ErrorKind::interrupted, "interrupted");
}

TEST_CASE("names that a list has to escape are read and written as sha256sum does") {
  // Output of: printf x > $'a\nb'; sha256sum $'a\nb'. The backslash in front marks a line with escapes.
  const std::string sha256 = kSha256;
  const std::vector<std::string> names = {"plain", "a\nb", "back\\slash", "\r", "\\n", "a b"};
  const std::vector<std::string> lines = {"  plain", "  a\\nb", "  back\\\\slash",
                                          "  \\r",   "  \\\\n", "  a b"};
  std::vector<format::ManifestFile> files;
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    files.emplace_back().path = names[i];
    files.back().sha256 = base::parse_digest<base::Sha256>(kSha256);
    text += (i >= 1 && i <= 4 ? "\\" : "") + sha256 + lines[i] + '\n';
  }
  CHECK(format::sums_text(files) == text);
  const auto again = parse_sums(text).files;
  REQUIRE(again.size() == names.size());
  for (std::size_t i = 0; i < names.size(); ++i) CHECK(again[i].path == names[i]);
  // Without the mark a backslash separates folders, as in lists from Windows.
  CHECK(parse_sums(sha256 + "  a\\nb").files.at(0).path == "a/nb");
  CHECK_ERROR(parse_sums('\\' + sha256 + "  ..\\n/../x"), ErrorKind::malformed, "unsafe file name");
  CHECK_ERROR(parse_sums('\\' + sha256 + "  /a\\nb"), ErrorKind::malformed, "is absolute");
  files[0].sha256.reset();
  CHECK(format::sums_text({files[0]}).empty());
}

TEST_CASE("a folder's name becomes one that a manifest can have") {
  CHECK(format::to_release_name("Mixtral-8x7B v0.1") == "mixtral-8x7b-v0.1");
  CHECK(format::to_release_name("__a") == "a");
  CHECK(format::to_release_name("..") == "release");
}
