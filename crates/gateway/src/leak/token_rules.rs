//! A rule for a credential that is known by its own form, and the first part of the list: models, clouds and hosting.

/// How much must stand clear around a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// No letter or digit on either side.
    Word,
    /// A quote, a bracket, white space, an operator or nothing on either side: for forms that would be found within other long texts.
    Alone,
    /// Anything: the form says enough.
    Free,
}

/// What is worked out over a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Its entropy, and that it is no example.
    Random,
    /// The same, and there are digits among the letters.
    Digits,
    /// The same as `Random`, and the last six characters are the CRC-32 of those before in base 62 (GitHub's scheme, npm's too).
    Crc62,
    /// The checksum of bech32 (BIP 173).
    Bech32,
    /// Nothing.
    None,
}

/// How sure a finding is, and what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// It may be one.
    Warn,
    /// It is one by its place: taken out.
    Redact,
    /// It is one by its own form: never sent anywhere.
    Block,
}

/// A credential that its own form tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// The rule's name.
    pub(super) id: &'static str,
    /// The form; see [`super::pattern`].
    pub(super) form: &'static str,
    pub(super) edge: Edge,
    pub(super) check: Check,
    pub(super) level: Level,
    /// One of these words must stand within a hundred bytes before it; empty: none.
    pub(super) near: &'static [&'static str],
}

/// A rule with the usual edges and checks, that blocks.
pub(super) const fn t(id: &'static str, form: &'static str) -> Token {
    Token { id, form, edge: Edge::Word, check: Check::Random, level: Level::Block, near: &[] }
}

impl Token {
    pub(super) const fn alone(mut self) -> Self {
        self.edge = Edge::Alone;
        self
    }
    pub(super) const fn free(mut self) -> Self {
        self.edge = Edge::Free;
        self
    }
    pub(super) const fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }
    pub(super) const fn warn(mut self) -> Self {
        self.level = Level::Warn;
        self
    }
    pub(super) const fn near(mut self, words: &'static [&'static str]) -> Self {
        self.near = words;
        self
    }
}

/// Models and clouds. The forms are the vendors' own, as they publish them or as their keys look.
pub(super) static MODELS_AND_CLOUDS: &[Token] = &[
    t("openai-api-key", "sk-<n20>T3BlbkFJ<n20>"),
    t("openai-project-key", "sk-proj-<s40,220>"),
    t("openai-service-account-key", "sk-svcacct-<s40,220>"),
    t("openai-admin-key", "sk-admin-<s40,220>"),
    t("openai-api-key", "sk-None-<s40,220>"),
    t("openai-api-key", "sk-<n48>"),
    t("openai-session-key", "sess-<n40>").alone(),
    t("openai-webhook-secret", "whsec_<B32,88>"),
    t("anthropic-api-key", "sk-ant-api<d2>-<s80,120>"),
    t("anthropic-admin-key", "sk-ant-admin<d2>-<s80,120>"),
    t("anthropic-oauth-token", "sk-ant-oat<d2>-<s50,160>"),
    t("anthropic-refresh-token", "sk-ant-ort<d2>-<s50,160>"),
    t("anthropic-session-key", "sk-ant-sid<d2>-<s50,160>"),
    t("openrouter-api-key", "sk-or-v1-<h64>"),
    t("langfuse-secret-key", "sk-lf-<uuid>"),
    t("helicone-api-key", "sk-helicone-<s20,60>"),
    t("litellm-virtual-key", "sk-<s22>").alone().near(&["litellm"]),
    t("deepseek-api-key", "sk-<h32>").alone(),
    t("groq-api-key", "gsk_<n52>"),
    t("xai-api-key", "xai-<n80>"),
    t("huggingface-access-token", "hf_<n34>"),
    t("huggingface-organization-token", "api_org_<n34>"),
    t("replicate-api-token", "r8_<n37>"),
    t("perplexity-api-key", "pplx-<n48,56>"),
    t("together-api-key", "tgp_v1_<s43>"),
    t("fireworks-api-key", "fw_<n22,32>").alone(),
    t("elevenlabs-api-key", "sk_<h48>").alone(),
    t("langsmith-api-key", "lsv2_pt_<h32>_<h10>"),
    t("langsmith-service-key", "lsv2_sk_<h32>_<h10>"),
    t("pinecone-api-key", "pcsk_<w50,90>"),
    t("nvidia-api-key", "nvapi-<s60,80>"),
    t("voyage-api-key", "pa-<s43>").alone(),
    t("cerebras-api-key", "csk-<k48>"),
    t("tavily-api-key", "tvly-<s32,60>"),
    t("jina-api-key", "jina_<h32><s28,36>"),
    t("firecrawl-api-key", "fc-<h32>").alone(),
    t("runpod-api-key", "rpa_<U40,50>"),
    t("e2b-api-key", "e2b_<h40>"),
    t("browserbase-api-key", "bb_live_<s24,40>"),
    t("wandb-api-key", "wandb_v1_<w60,100>"),
    t("weaviate-api-key", "wcs_<n32,60>").alone(),
    t("baseten-api-key", "bst_<n32,48>").alone(),
    t("writer-api-key", "wr-live-<n32,64>"),
    t("cursor-api-key", "key_<h64>").alone(),
    t("mem0-api-key", "m0-<n40>").alone(),
    t("aws-access-key", "AKIA<316>"),
    t("aws-access-key", "ASIA<316>"),
    t("aws-access-key", "ABIA<316>"),
    t("aws-access-key", "ACCA<316>"),
    t("aws-access-key", "A3T<U1><316>"),
    t("aws-bedrock-key", "ABSK<b109,269><=0,2>"),
    t("aws-bedrock-short-key", "bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t<B0,2000>").check(Check::None),
    t("aws-mws-token", "amzn.mws.<uuid>"),
    t("aws-appsync-key", "da2-<k26>"),
    t("azure-ad-client-secret", "<r3><d1>^Q~<r31,34>").alone(),
    t("azure-devops-token", "<n76>^AZDO<n4>"),
    t("azure-identifiable-key", "<n52>^JQQJ9<n27>"),
    t("azure-storage-key", "<B76>^+ASt<B6>==").alone(),
    t("azure-function-key", "<s44>^AzFu<B4,8>").alone(),
    t("azure-search-key", "<n42>^AzSe<n6>").alone(),
    t("azure-cosmosdb-key", "<B76>^ACDb<B6>==").alone(),
    t("azure-container-registry-key", "<b42>^+ACR<n6>").alone(),
    t("azure-eventhub-key", "<B33>^+AEh<B6>=").alone(),
    t("google-api-key", "AIza<s35>"),
    t("google-oauth-client-secret", "GOCSPX-<s28>"),
    t("google-oauth-access-token", "ya29.<s40,400>"),
    t("google-oauth-refresh-token", "1//0<s40,110>").alone(),
    t("google-gemini-token", "AQ.<s40,60>").alone(),
    t("digitalocean-pat", "dop_v1_<h64>"),
    t("digitalocean-oauth-token", "doo_v1_<h64>"),
    t("digitalocean-refresh-token", "dor_v1_<h64>"),
    t("digitalocean-spaces-key", "DO00<U16>"),
    t("alibaba-access-key", "LTAI<n12,26>"),
    t("tencent-secret-id", "AKID<n32>"),
    t("scaleway-access-key", "SCW<U17>"),
    t("hetzner-robot-token", "hcloud_<n64>"),
    t("heroku-api-key", "HRKU-AA<s58>"),
    t("render-api-key", "rnd_<n28,40>"),
    t("fly-access-token", "fo1_<s43>"),
    t("fly-access-token", "fm1a_<b100,2000><=0,3>"),
    t("fly-access-token", "fm1r_<b100,2000><=0,3>"),
    t("fly-access-token", "fm2_<b100,2000><=0,3>"),
    t("vercel-token", "vcp_<n24,80>"),
    t("vercel-integration-token", "vci_<n24,80>"),
    t("vercel-ai-gateway-key", "vck_<n24,80>"),
    t("vercel-blob-token", "vercel_blob_rw_<n16>_<n30>"),
    t("netlify-access-token", "nfp_<n36>"),
    t("netlify-access-token", "nfc_<n36>"),
    t("cloudflare-origin-ca-key", "v1.0-<h24>-<h146>"),
    t("cloudflare-user-token", "cfut_<s40,60>"),
    t("cloudflare-account-token", "cfat_<s40,60>"),
    t("supabase-access-token", "sbp_<h40>"),
    t("supabase-secret-key", "sb_secret_<s31,50>"),
    t("neon-api-key", "napi_<k64>"),
    t("planetscale-token", "pscale_tkn_<q32,64>"),
    t("planetscale-oauth-token", "pscale_oauth_<q32,64>"),
    t("planetscale-password", "pscale_pw_<q32,64>"),
    t("mongodb-atlas-client-secret", "mdb_sa_sk_<s40,48>"),
    t("clickhouse-cloud-key", "4b1d<n38>"),
    t("confluent-secret", "cflt<B60>").alone(),
    t("doppler-personal-token", "dp.pt.<n40,44>"),
    t("doppler-cli-token", "dp.ct.<n40,44>"),
    t("doppler-service-token", "dp.st.<t40,90>"),
    t("doppler-service-account-token", "dp.sa.<n40,44>"),
    t("doppler-scim-token", "dp.scim.<n40,44>"),
    t("doppler-audit-token", "dp.audit.<n40,44>"),
    t("vault-service-token", "hvs.<s24,120>"),
    t("vault-batch-token", "hvb.<s100,300>"),
    t("vault-recovery-token", "hvr.<s24,300>"),
    t("vault-legacy-token", "s.<n24>").alone().check(Check::Digits),
    t("terraform-cloud-token", "<n14>^.atlasv1.<e60,70>"),
    t("pulumi-access-token", "pul-<h40>"),
    t("infracost-api-token", "ico-<n32>"),
    t("databricks-token", "dapi<h32>"),
    t("databricks-token", "dapi<h32>-<d1>"),
    t("databricks-oauth-secret", "dose<h32>"),
    t("infisical-service-token", "st.<h24>.<h32>.<h32>"),
    t("dotenv-vault-key", "dotenv://:key_<h64>@"),
    t("openshift-token", "sha256~<s43>"),
    t("rancher-token", "token-<k5>:<k54>"),
    t("dynatrace-token", "dt0c01.<n24>.<n64>"),
    t("dynatrace-platform-token", "dt0s16.<n8>.<n64>"),
    t("onepassword-secret-key", "A3-<U6>-<U11>-<U5>-<U5>-<U5>"),
    t("onepassword-secret-key", "A3-<U6>-<U6>-<U5>-<U5>-<U5>-<U5>"),
    t("onepassword-service-token", "ops_eyJ<B250,2000>"),
    t("bitwarden-access-token", "0.<uuid>.<n30>:<B24>").alone(),
    t("age-secret-key", "AGE-SECRET-KEY-1<x58>").check(Check::Bech32),
    t("akamai-credential", "akab-<k16>-<k16>"),
    t("tailscale-auth-key", "tskey-auth-<n10,24>-<n20,40>"),
    t("tailscale-api-key", "tskey-api-<n10,24>-<n20,40>"),
    t("tailscale-client-secret", "tskey-client-<n10,24>-<n20,40>"),
    t("ngrok-api-key", "ak_<n27>").alone(),
    t("defined-networking-token", "dnkey-<e26>-<e52>"),
    t("yandex-iam-token", "t1.<e40,300>.<e86,88>").alone(),
    t("yandex-api-key", "AQVN<s35,38>"),
    t("scalingo-api-token", "tk-us-<s48>"),
    t("upcloud-token", "ucat_<U26>"),
];
