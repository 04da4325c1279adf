#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "fetch/fetch.h"
#include "fetch/net/address.h"
#include "tests/support/check_error.h"

using namespace sluice;
using base::ErrorKind;
using Strings = std::vector<std::string>;

namespace {

const std::string kHex = "5546272da9065eddeb6fcd7ffddeef5b75be79a7";
const std::string kHex256 = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";

std::string v1_of(const std::string& magnet) {
  return base::to_hex(fetch::parse_magnet(magnet).infohash_v1.value());
}

}  // namespace

TEST_CASE("a v1 info-hash is read as hex of either case and as base32") {
  CHECK(v1_of("magnet:?xt=urn:btih:" + kHex) == kHex);
  CHECK(v1_of("MAGNET:?XT=URN:BTIH:5546272DA9065EDDEB6FCD7FFDDEEF5B75BE79A7") == kHex);
  // Python: base64.b32encode(bytes.fromhex(...))
  CHECK(v1_of("magnet:?xt=urn:btih:ZXXDAUWYLRUXXBHUYEMS6Q5CE5WA3LVA") ==
        "cdee3052d85c697b84f4c1192f43a2276c0daea0");
  CHECK(v1_of("magnet:?xt=urn:btih:zxxdauwylruxxbhuyems6q5ce5wa3lva") ==
        "cdee3052d85c697b84f4c1192f43a2276c0daea0");
  CHECK(v1_of("magnet:?dn=x&xt.1=urn%3Abtih%3A" + kHex) == kHex);
  CHECK(v1_of("magnet:?dn=x&amp;xt=urn:btih:" + kHex) == kHex);
}

TEST_CASE("a v2 info-hash is read from its multihash, alone and beside a v1 one") {
  const auto both = fetch::parse_magnet("magnet:?xt=urn:btih:" + kHex + "&xt=urn:btmh:1220" + kHex256);
  CHECK(base::to_hex(both.infohash_v1.value()) == kHex);
  CHECK(base::to_hex(both.infohash_v2.value()) == kHex256);
  const auto alone = fetch::parse_magnet("magnet:?xt=urn:btmh:1220" + kHex256);
  CHECK_FALSE(alone.infohash_v1.has_value());
  CHECK(alone.infohash_v2.has_value());
}

TEST_CASE("links without a usable info-hash are refused") {
  const auto refused = [](const std::string& magnet, const char* part) {
    CAPTURE(magnet);
    CHECK_ERROR(fetch::parse_magnet(magnet), ErrorKind::usage, part);
  };
  refused("", "is not a magnet link");
  refused("magnet", "is not a magnet link");
  refused("http://example.org/", "is not a magnet link");
  refused("magnet:?", "has no info-hash");
  refused("magnet:?dn=name&tr=udp://a.example:1", "has no info-hash");
  refused("magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C", "has no info-hash");
  refused("magnet:?xt=urn:btih:" + kHex.substr(1), "malformed info-hash");
  refused("magnet:?xt=urn:btih:" + kHex + "0", "malformed info-hash");
  refused("magnet:?xt=urn:btih:" + kHex.substr(1) + "g", "malformed info-hash");
  refused("magnet:?xt=urn:btih:ZXXDAUWYLRUXXBHUYEMS6Q5CE5WA3LV1", "malformed info-hash");
  refused("magnet:?xt=urn:btih:", "malformed info-hash");
  refused("magnet:?xt=urn:btmh:1320" + kHex256, "malformed info-hash");
  refused("magnet:?xt=urn:btmh:1220" + kHex256.substr(2), "malformed info-hash");
  refused("magnet:?xt=urn:btih:" + kHex + "&xt=urn:btih:" + std::string(40, '0'),
          "two different info-hashes");
  refused("magnet:?" + std::string(2 << 20, 'x'), "longer than 1 MiB");
}

TEST_CASE("one malformed info-hash beside a good one gives a warning") {
  const auto magnet = fetch::parse_magnet("magnet:?xt=urn:btih:1234&xt=urn:btmh:1220" + kHex256);
  CHECK(magnet.infohash_v2.has_value());
  REQUIRE(magnet.warnings.size() == 1);
  CHECK(magnet.warnings[0] == "the magnet link has the malformed info-hash 'urn:btih:1234'");
}

TEST_CASE("name, trackers, web seeds and peers are percent-decoded") {
  const auto magnet = fetch::parse_magnet(
      "magnet:?xt=urn:btih:" + kHex +
      "&dn=My+Model%20v1&tr=udp%3A%2F%2Ftracker.opentrackr.org%3A1337%2Fannounce&tr.1=https%3a%2f%2fa."
      "example%2fannounce"
      "&tr=udp%3A%2F%2Ftracker.opentrackr.org%3A1337%2Fannounce&ws=https%3A%2F%2Fcdn.example%2Ffiles%2F"
      "&x.pe=1.2.3.4%3A6881&x.pe=%5B2001%3Adb8%3A%3A1%5D%3A6881&x.pe=host.example:80&so=0-2&unknown=1&flag");
  CHECK(magnet.name == "My Model v1");
  CHECK((magnet.trackers ==
         Strings{"udp://tracker.opentrackr.org:1337/announce", "https://a.example/announce"}));
  CHECK((magnet.web_seeds == Strings{"https://cdn.example/files/"}));
  CHECK((magnet.peers == Strings{"1.2.3.4:6881", "[2001:db8::1]:6881", "host.example:80"}));
  CHECK(magnet.warnings.empty());
}

TEST_CASE("percent signs that start no escape stay as they are") {
  const auto magnet = fetch::parse_magnet("magnet:?xt=urn:btih:" + kHex + "&dn=100%&dn=50%-%zz%4");
  CHECK(magnet.name == "50%-%zz%4");
  CHECK(fetch::parse_magnet("magnet:?xt=urn:btih:" + kHex + "&dn=%").name == "%");
  CHECK(fetch::parse_magnet("magnet:?xt=urn:btih:" + kHex + "&dn=%41%").name == "A%");
}

TEST_CASE("links as they were posted are read, and their mangled trackers are left out with a warning each") {
  struct Posted {
    std::string magnet;
    std::string infohash;
    Strings trackers;
    std::size_t warnings;
  };
  const std::vector<Posted> table{
      {"magnet:?xt=urn:btih:5546272da9065eddeb6fcd7ffddeef5b75be79a7&dn=mixtral-8x7b-32kseqlen&tr=udp%3A%2F%"
       "http://"
       "2Fopentracker.i2p.rocks%3A6969%2Fannounce&tr=http%3A%2F%http://"
       "2Ftracker.openbittorrent.com%3A80%2Fannounce",
       kHex,
       {},
       2},
      {"magnet:?xt=urn:btih:9238b09245d0d8cd915be09927769d5f7584c1c9&dn=mixtral-8x22b&tr=udp%3A%2F%http://"
       "2Fopen.demonii.com%3A1337%2Fannounce&tr=http%3A%2F%https://t.co/OdtBUsbeV5%3A1337%2Fannounce",
       "9238b09245d0d8cd915be09927769d5f7584c1c9",
       {},
       2},
      {"magnet:?xt=urn:btih:5f96d43576e3d386c9ba65b883210a393b68210e&tr=https%3A%2F%2Facademictorrents.com%"
       "2Fannounce."
       "php&tr=udp%3A%2F%2Ftracker.coppersurfer.tk%3A6969&tr=udp%3A%2F%2Ftracker.opentrackr.org%3A1337%"
       "2Fannounce",
       "5f96d43576e3d386c9ba65b883210a393b68210e",
       {"https://academictorrents.com/announce.php", "udp://tracker.coppersurfer.tk:6969",
        "udp://tracker.opentrackr.org:1337/announce"},
       0},
      {"magnet:?xt=urn:btih:208B101A0F51514ECF285885A8B0F6FB1A1E4D7D&dn=mistral-7B-v0.1&tr=udp%3a%2f-tp%3a%"
       "2f%"
       "2f2Ftracker.opentrackr.org%3a1337%2fannounce&tr=https%3a%2f-tps%3a%2f%2ft.co%2fHAadNvH1t0%3a443%"
       "2fannounce&tr="
       "wss%3a%2f%2fwstracker.online",
       "208b101a0f51514ecf285885a8b0f6fb1a1e4d7d",
       {},
       3},
      {"magnet:?xt=urn:btih:11f2d1ca613ccf5a5c60104db9f3babdfa2e6003&dn=Mistral-Small-3-Instruct&tr=udp%3A%"
       "2F%http://"
       "2Ftracker.opentrackr.org%3A1337%2Fannounce&tr=http%3A%2F%http://2Fopen.tracker.cl%3A1337%2F...",
       "11f2d1ca613ccf5a5c60104db9f3babdfa2e6003",
       {},
       2},
  };
  for (const Posted& posted : table) {
    CAPTURE(posted.magnet);
    const auto magnet = fetch::parse_magnet(posted.magnet);
    CHECK(base::to_hex(magnet.infohash_v1.value()) == posted.infohash);
    CHECK((magnet.trackers == posted.trackers));
    CHECK(magnet.warnings.size() == posted.warnings);
    for (const std::string& warning : magnet.warnings)
      CHECK_MESSAGE(warning.find("is left out: it ") != std::string::npos, warning);
  }
}

TEST_CASE("no cut and no single damaged byte of a link makes the parser fail otherwise than by an Error") {
  const std::string magnet =
      "magnet:?xt=urn:btih:" + kHex + "&dn=%41&tr=udp%3A%2F%2Fa.example%3A1&x.pe=1.2.3.4:5";
  int read = 0;
  for (std::size_t length = 0; length <= magnet.size(); ++length) {
    for (const char byte : {'\0', '%', '&', '=', ':', '\xff'}) {
      std::string damaged = magnet.substr(0, length);
      if (length > 0) damaged[length - 1] = byte;
      try {
        read += fetch::parse_magnet(damaged).infohash_v1.has_value();
      } catch (const base::Error& error) {
        CHECK(error.kind() == ErrorKind::usage);
      }
    }
  }
  CHECK(read > 0);
}

TEST_CASE("trackers need a known scheme, a host and a port") {
  for (const char* good : {"udp://a.example:1", "http://a.example", "https://a.example/announce?key=1",
                           "HTTP://[2001:db8::1]:80/announce", "udp://192.0.2.1:65535/announce"})
    CHECK_MESSAGE(fetch::tracker_problem(good) == "", good);
  for (const char* bad :
       {"", "udp", "udp://", "udp:///announce", "udp://a.example", "udp://a.example:0",
        "udp://a.example:65536", "udp://a.example:x", "wss://a.example:1", "file:///etc/passwd",
        "http://user@a.example/", "http://a b/", "http://a.example:80:80/", "http://[::1/", "http://-%/",
        "http://a..b/", "http://.a/", "http://a.example/\n", "javascript://a:1"})
    CHECK_MESSAGE(fetch::tracker_problem(bad) != "", bad);
}

TEST_CASE("private addresses are known in all their spellings") {
  for (const char* host : {"127.0.0.1",
                           "127.1",
                           "2130706433",
                           "0x7f000001",
                           "0",
                           "10.1.2.3",
                           "172.16.0.1",
                           "172.31.255.255",
                           "192.168.0.1",
                           "169.254.169.254",
                           "100.64.0.1",
                           "224.0.0.1",
                           "255.255.255.255",
                           "::",
                           "::1",
                           "fe80::1",
                           "fe80::1%eth0",
                           "fc00::1",
                           "fd12::1",
                           "ff02::1",
                           "::ffff:127.0.0.1",
                           "::ffff:10.0.0.1",
                           "64:ff9b::127.0.0.1",
                           "localhost",
                           "LOCALHOST",
                           "localhost.",
                           "a.localhost",
                           "printer.local",
                           "metadata.google.internal"})
    CHECK_MESSAGE(fetch::is_private_host(host), host);
  for (const char* host : {"8.8.8.8", "172.32.0.1", "172.15.0.1", "100.128.0.1", "192.169.0.1", "2001:db8::1",
                           "::ffff:8.8.8.8", "example.org", "localhost.example.org", "local"})
    CHECK_MESSAGE(!fetch::is_private_host(host), host);
}

TEST_CASE("what stands around a pasted link is not a part of it") {
  const std::string link = "magnet:?xt=urn:btih:" + kHex;
  for (const std::string& pasted :
       {" " + link, link + " \t", link + "\r\n", "\xef\xbb\xbf" + link, "\"" + link + "\"", "'" + link + "'",
        "<" + link + ">", "\u201C" + link + "\u201D", "\u00A0" + link + "\u200B", "`" + link + "`\n",
        link.substr(0, 30) + "\r\n" + link.substr(30)}) {
    CAPTURE(pasted);
    CHECK(fetch::clean_link(pasted) == link);
    CHECK(v1_of(pasted) == kHex);
  }
  CHECK(fetch::clean_link("  https://a.example/x.torrent\n") == "https://a.example/x.torrent");
  CHECK(fetch::clean_link("some words") == "some words");
  // A line end behind a tracker must not cost the tracker.
  const auto magnet = fetch::parse_magnet(link + "&tr=udp://a.example:1%0D%0A&tr=udp://b.example:2\r");
  CHECK(magnet.trackers == Strings{"udp://a.example:1", "udp://b.example:2"});
  CHECK(magnet.warnings.empty());
}

TEST_CASE("a bare info-hash is a magnet link, and a file: URL a path") {
  CHECK(fetch::clean_link(kHex) == "magnet:?xt=urn:btih:" + kHex);
  CHECK(fetch::clean_link("urn:btih:" + kHex + "\n") == "magnet:?xt=urn:btih:" + kHex);
  CHECK(v1_of(fetch::clean_link("ZXXDAUWYLRUXXBHUYEMS6Q5CE5WA3LVA")) ==
        "cdee3052d85c697b84f4c1192f43a2276c0daea0");
  for (const std::string& v2 : {kHex256, "1220" + kHex256, "urn:btmh:1220" + kHex256})
    CHECK(base::to_hex(fetch::parse_magnet(fetch::clean_link(v2)).infohash_v2.value()) == kHex256);
  CHECK(fetch::clean_link(kHex.substr(1)) == kHex.substr(1));
  CHECK(fetch::clean_link("file:///tmp/a%20b.torrent") == "/tmp/a b.torrent");
  CHECK(fetch::clean_link("file://localhost/tmp/a") == "/tmp/a");
  CHECK(fetch::clean_link("file:/tmp/a") == "/tmp/a");
}

TEST_CASE("a text file that begins with a link stands for it") {
  const std::string link = "magnet:?xt=urn:btih:" + kHex;
  CHECK(fetch::find_link("\xef\xbb\xbf\r\n# saved today\r\n" + link + "\r\n\r\n", "f") == link);
  CHECK(fetch::find_link(link + "\nsome words\n" + link, "f") == link);
  CHECK(fetch::find_link(kHex, "f") == link);
  CHECK(fetch::find_link("some words\n" + link, "f") == std::nullopt);
  CHECK(fetch::find_link("", "f") == std::nullopt);
  CHECK_ERROR(fetch::find_link(link + "\nhttps://a.example/b.torrent\n", "f"), ErrorKind::usage,
              "f: holds several links");
}

TEST_CASE("a magnet link can select files by index (BEP 53)") {
  const std::string link = "magnet:?xt=urn:btih:" + kHex;
  const auto selected = fetch::parse_magnet(link + "&so=0,2,4-6").selected;
  REQUIRE(selected.size() == 3);
  CHECK(selected[0].first == 0);
  CHECK(selected[1].last == 2);
  CHECK(selected[2].first == 4);
  CHECK(selected[2].last == 6);
  CHECK(fetch::parse_magnet(link).selected.empty());
  for (const char* bad : {"x", "3-1", "-2", "1-", "0,,2", "18446744073709551616"})
    CHECK_ERROR(fetch::parse_magnet(link + "&so=" + bad), ErrorKind::usage,
                "has the malformed selection 'so=");
}
