//! `submit_plan`: hands a plan in.

use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_core::limits::PLAN_TASKS_MAX;
use aedile_core::model::ToolSpec;
use aedile_core::plan::plan_schema;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::Value;

use crate::door::{DoorClient, DoorError};

/// The tool.
pub(crate) struct SubmitPlan {
    pub(crate) door: DoorClient,
}

#[async_trait]
impl Tool for SubmitPlan {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "submit_plan".to_owned(),
            description: "Hands the plan in and ends your turn when it is taken. It is checked at once; if it is refused, mend all that the reasons name and \
                          hand the whole plan in again. Only a few tries are given."
                .to_owned(),
            input_schema: plan_schema(),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Control
    }

    async fn call(&self, input: Value) -> ToolOutput {
        match self.door.call(&AgentRequest::PlanSubmit { plan: input }).await {
            Ok(AgentReply::Done { message }) => ToolOutput { ends_turn: true, ..ToolOutput::ok(message) },
            Ok(AgentReply::Over { message }) => ToolOutput { ends_turn: true, ..ToolOutput::error(message) },
            Ok(AgentReply::Refused { message }) => ToolOutput::error(message),
            Ok(other) => ToolOutput::error(format!("the door's answer is not understood: {other:?}")),
            Err(error @ DoorError::TooLarge { .. }) => {
                ToolOutput::error(format!("{error}: a plan has at most {PLAN_TASKS_MAX} tasks, with short prompts"))
            }
            Err(error) => ToolOutput::error(error.to_string()),
        }
    }
}
